"""A mail server that nobody here wrote (aiosmtpd), told by a recipient's name how to behave.

Speaks lines of JSON on its standard output: {"port": N} first, then what happens, as it happens.
"""

import argparse
import asyncio
import collections
import email
import email.policy
import html.parser
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult


def say(**event):
    print(json.dumps(event), flush=True)


class Html(html.parser.HTMLParser):
    """What an HTML part links to, fetches and shows."""

    def __init__(self):
        super().__init__()
        self.tags, self.hrefs, self.fetched, self.shown = set(), [], [], []
        self.inside = None

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.inside = tag
        for name, value in attrs:
            if name == "href":
                self.hrefs.append(value)
            elif name in ("src", "srcset", "background", "action", "poster"):
                self.fetched.append(value)

    def handle_data(self, data):
        if self.inside != "style":
            self.shown.append(data)


def parsed(raw):
    message = email.message_from_bytes(raw, policy=email.policy.default)
    parts = {}
    for part in message.iter_parts():
        parts[part.get_content_type()] = {
            "charset": part.get_content_charset(),
            "content": part.get_content(),
            "defects": [str(defect) for defect in part.defects],
        }
    html_part = Html()
    html_part.feed(parts.get("text/html", {}).get("content", ""))
    return {
        "type": message.get_content_type(),
        "headers": [[name, str(value)] for name, value in message.items()],
        "date": message["date"].datetime.timestamp(),
        "defects": [str(defect) for defect in message.defects],
        "parts": parts,
        "order": [part.get_content_type() for part in message.iter_parts()],
        "tags": sorted(html_part.tags),
        "hrefs": html_part.hrefs,
        "fetched": html_part.fetched,
        "shown": " ".join(" ".join(html_part.shown).split()),
        "ascii": raw.isascii(),
        "longest_line": max(len(line) for line in raw.split(b"\r\n")),
        "bare_line_ends": raw.replace(b"\r\n", b"").count(b"\n") + raw.replace(b"\r\n", b"").count(b"\r"),
    }


class Handler:
    def __init__(self):
        self.tries = collections.Counter()

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        if address.startswith("unwelcome@"):
            say(event="unwelcome", sender=address)
            return "550 5.7.1 I do not know you"
        return "250 2.1.0 fine"

    async def handle_RCPT(self, server, session, envelope, address, options):
        envelope.rcpt_tos.append(address)
        if address.startswith("never"):
            say(event="refused", to=address)
            return f"550 5.1.1 <{address}> nobody of that name"
        return "250 2.1.5 fine"

    async def handle_DATA(self, server, session, envelope):
        [to] = envelope.rcpt_tos
        behaviour, _, times = to.split("@")[0].partition("-")
        self.tries[to] += 1
        first = self.tries[to] <= (int(times) if times.isdecimal() else 1)
        if behaviour == "later" and first:
            say(event="later", to=to)
            return f"451 4.7.1 <{to}> come back later"
        if behaviour == "cut" and first:
            say(event="cut", to=to)
            server.transport.abort()
            return "451 4.0.0 gone"
        say(
            event="held" if behaviour == "held" and first else "mail",
            to=to,
            sender=envelope.mail_from,
            mail=parsed(envelope.content),
            tls=session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None,
        )
        if behaviour in ("held", "hang") and first:
            await asyncio.sleep(3600)
        return "250 2.0.0 accepted"


class Server(SMTP):
    def connection_lost(self, error):
        say(event="left")
        super().connection_lost(error)


async def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    arguments.add_argument("--certificate")
    arguments.add_argument("--key")
    arguments.add_argument("--user")
    arguments.add_argument("--password")
    options = arguments.parse_args()

    context = None
    if options.tls != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)

    def authenticate(server, session, envelope, mechanism, data):
        good = data.login.decode() == options.user and data.password.decode() == options.password
        say(event="auth", good=good, tls=session.ssl is not None)
        return AuthResult(success=good, handled=False)

    starttls = options.tls == "starttls"
    handler = Handler()
    server = await asyncio.get_running_loop().create_server(
        lambda: Server(
            handler,
            hostname="mail.localhost",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            authenticator=authenticate if options.user else None,
            auth_required=options.user is not None,
            auth_require_tls=starttls,
            enable_SMTPUTF8=False,
            decode_data=False,
        ),
        "127.0.0.1",
        0,
        ssl=context if options.tls == "implicit" else None,
    )
    say(port=server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(main())
