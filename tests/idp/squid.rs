//! The same through Squid, with the configuration that operators get.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::chown,
    path::Path,
    process::{Child, Command},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    hosts::{HERE, Hosts, INSIDE, discovery, look_up},
    name_server::NameServer,
};

const CONFIGURATION: &str = include_str!("../../deploy/squid/squid.conf");
/// Debian's.
const SQUID: &str = "/usr/sbin/squid";
/// For Squid to start or stop. It does at once; only a machine that stands still takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Squid {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Squid {
    /// The operators' configuration, but for where its files are, what names lead to, and the rules `first`.
    async fn start(names: &[(&str, &str)], first: &str) -> Squid {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        give_to_proxy(path);
        let mut hosts = String::new();
        for (name, address) in names {
            writeln!(hosts, "{address} {name}").expect("written");
        }
        fs::write(path.join("hosts"), hosts).expect("written");
        let port = free_port().await;
        let changed = |line: &str| match line.split(' ').next() {
            Some("http_port") => format!(
                "http_port 127.0.0.1:{port}\n{first}\nhosts_file {0}/hosts",
                path.display()
            ),
            Some("coredump_dir") => format!("coredump_dir {}", path.display()),
            Some("pid_filename") => format!("pid_filename {}/squid.pid", path.display()),
            _ => line.to_owned(),
        };
        let mut lines: Vec<String> = CONFIGURATION.lines().map(changed).collect();
        lines.push(format!("cache_log {}/cache.log\n", path.display()));
        let configuration = path.join("squid.conf");
        fs::write(&configuration, lines.join("\n")).expect("written");
        let child = Command::new(SQUID)
            .arg("-N")
            .arg("-f")
            .arg(&configuration)
            .spawn()
            .expect("Squid starts: `apt-get install squid`, or run deploy/test.sh");
        let mut squid = Squid {
            child,
            port,
            _directory: directory,
        };
        let before = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = squid.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && before.elapsed() < PATIENCE,
                "Squid does not start: {ended:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        squid
    }

    /// The status that a request gets.
    async fn status(&self, request: &str) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("Squid");
        let request = format!("{request}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        let answer = String::from_utf8(answer).expect("ASCII");
        answer
            .rsplit(' ')
            .next()
            .and_then(|code| code.parse().ok())
            .expect("a status")
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // It is ours, and keeps nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Started by root, Squid becomes `proxy`, and must own its files.
fn give_to_proxy(path: &Path) {
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let proxy = users
        .lines()
        .find(|line| line.starts_with("proxy:"))
        .expect("Debian's user");
    let ids: Vec<u32> = proxy.split(':').filter_map(|field| field.parse().ok()).collect();
    if let [user, group, ..] = ids[..] {
        // If we are not root, Squid stays whoever we are.
        let _ = chown(path, Some(user), Some(group));
    }
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound").port()
}

fn client(hosts: &Hosts, squid: &Squid, port: u16) -> persona::idp::Discovery {
    let proxy = format!("http://127.0.0.1:{}", squid.port)
        .parse()
        .expect("a proxy");
    discovery(hosts.client_through(proxy, port), Duration::from_secs(8))
}

#[tokio::test]
async fn a_domain_is_asked_through_squid_and_its_certificate_is_checked_here() {
    let hosts = Hosts::start(&["a.test"]).await;
    hosts.primary("a.test");
    hosts.primary("other.test");
    let port = hosts.socket.port();
    // What stands for the internet here.
    let out = format!("acl out dst {HERE}\nacl there port {port}\nhttp_access allow out there");
    let squid = Squid::start(&[("a.test", HERE), ("other.test", HERE)], &out).await;
    let discovery = client(&hosts, &squid, port);
    assert_eq!(look_up(&discovery, "a.test").await, "a.test https://a.test/in");
    let invalid = "its TLS certificate is not valid for it";
    assert_eq!(look_up(&discovery, "other.test").await, invalid);
    assert_eq!(hosts.asked().len(), 1);
}

#[tokio::test]
async fn squid_refuses_what_is_inside_and_all_but_https() {
    let names: Vec<(String, &str)> = INSIDE
        .iter()
        .enumerate()
        .map(|(number, &address)| (format!("n{number}.test"), address))
        .collect();
    let mut table: Vec<(&str, &str)> = names.iter().map(|(name, at)| (name.as_str(), *at)).collect();
    table.push(("out.test", "1.2.3.4"));
    table.push(("both.test", "1.2.3.4"));
    table.push(("both.test", "127.0.0.1"));
    let squid = Squid::start(&table, "").await;
    let hosts = Hosts::start(&["a.test"]).await;
    let discovery = client(&hosts, &squid, 443);
    let refused = "our way out does not lead to it (status 403)";
    for (name, address) in &names {
        assert_eq!(look_up(&discovery, name).await, refused, "{address}");
        let literal = if address.contains(':') {
            format!("[{address}]")
        } else {
            (*address).to_owned()
        };
        let status = squid.status(&format!("CONNECT {literal}:443 HTTP/1.1")).await;
        assert_eq!(status, 403, "{address}");
    }
    assert_eq!(look_up(&discovery, "both.test").await, refused);
    for request in [
        "CONNECT out.test:80 HTTP/1.1",
        "CONNECT out.test:22 HTTP/1.1",
        "CONNECT out.test:8443 HTTP/1.1",
        "GET http://out.test/ HTTP/1.1\r\nHost: out.test",
        "GET http://out.test:443/ HTTP/1.1\r\nHost: out.test",
        "POST https://out.test/ HTTP/1.1\r\nHost: out.test\r\nContent-Length: 0",
        "GET http://127.0.0.1/squid-internal-mgr/info HTTP/1.1\r\nHost: 127.0.0.1",
    ] {
        assert_eq!(squid.status(request).await, 403, "{request}");
    }
    assert_eq!(hosts.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn squid_goes_where_the_rules_have_looked_whatever_the_name_server_says_next() {
    const ELSEWHERE: &str = "127.0.0.10";
    let hosts = Hosts::start(&["a.test"]).await;
    hosts.primary("a.test");
    let port = hosts.socket.port();
    let elsewhere = TcpListener::bind((ELSEWHERE, port)).await.expect("a port");
    let out = |names: &NameServer| {
        format!(
            "acl out dst {HERE}\nacl there port {port}\nhttp_access allow out there\ndns_nameservers {}",
            names.address
        )
    };
    // Out for the rules, and inside for who asks once more to connect.
    let names = NameServer::start(&[HERE, ELSEWHERE]).await;
    let squid = Squid::start(&[], &out(&names)).await;
    let told = look_up(&client(&hosts, &squid, port), "a.test").await;
    assert_eq!(told, "a.test https://a.test/in");
    assert_eq!(names.questions(), 1, "it is asked once");
    // Where it leads inside, the rules say so.
    let names = NameServer::start(&[ELSEWHERE, HERE]).await;
    let squid = Squid::start(&[], &out(&names)).await;
    let told = look_up(&client(&hosts, &squid, port), "a.test").await;
    assert_eq!(told, "our way out does not lead to it (status 403)");
    assert_eq!(names.questions(), 1);

    assert_eq!(hosts.connections.load(Ordering::SeqCst), 1);
    let nobody = tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await;
    assert!(nobody.is_err(), "nobody came there");
}

#[tokio::test]
async fn without_squid_the_way_out_is_closed_and_that_is_not_held_against_the_domain() {
    let hosts = Hosts::start(&["a.test"]).await;
    let proxy = format!("http://127.0.0.1:{}", free_port().await)
        .parse()
        .expect("a proxy");
    let discovery = discovery(hosts.client_through(proxy, 443), Duration::from_secs(8));
    assert_eq!(look_up(&discovery, "a.test").await, "our way out is closed");
}
