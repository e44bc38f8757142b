//! How a site sends mail: `[mail]`.

use std::{fs, io, path::Path, str::FromStr, time::Duration};

use lettre::message::Mailbox;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::{Zeroize, Zeroizing};

use super::notation::millis;
use crate::{
    identity::Address,
    mail::{MailSettings, Pace, Room, SenderAddresses, SmtpSettings, TlsMode, TransportSettings},
    public_url::PublicUrl,
};

/// Bytes of a file with a password at most.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// How mails are sent: from whom, and to which server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// What mails say they are from: `"Persona <no-reply@persona.example>"`. Their `Message-ID` is of its domain.
    pub from: Correspondent,
    /// Where answers go, if anywhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Correspondent>,
    /// Where reports of failed delivery go, if anywhere else: the envelope's sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounces_to: Option<Correspondent>,
    /// `smtp`; in a laboratory also `inbox`, or `file:DIRECTORY`.
    #[serde(default)]
    pub transport: TransportConfig,
    /// The SMTP server: its name, which its certificate must have, or its address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its port: 465, 587 or 25, after `tls`, where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `implicit`, `starttls` (without which nothing is sent), or `none`, to this machine only.
    #[serde(default)]
    pub tls: TlsMode,
    /// PEM file with the certificates to trust in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<std::path::PathBuf>,
    /// Who we are to the server, where it wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the user's password, alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<std::path::PathBuf>,
    /// What we call ourselves (`EHLO`), where it is not the host of `public_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello_name: Option<String>,
    /// Mails under way at once.
    #[serde(default = "four")]
    pub connections: usize,
    /// For one mail, from the connection to the server's last answer.
    #[serde(default = "a_minute", with = "millis", rename = "timeout_ms")]
    pub timeout: Duration,
    /// Mails that may wait for the server. More are refused.
    #[serde(default = "mails_max")]
    pub waiting_max: usize,
    /// What they may take of the disk.
    #[serde(default = "mib_max")]
    pub waiting_max_mib: u64,
}

/// Why the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MailConfigError {
    /// A field is not as it should be.
    #[error("field `mail.{field}`: {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A file that it names cannot be read.
    #[error("field `mail.{field}`: {}: {source}", path.display())]
    File {
        /// The field.
        field: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where mails go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TransportConfig {
    /// To an SMTP server.
    #[default]
    Smtp,
    /// Laboratory: into a directory.
    #[cfg(feature = "lab")]
    File(std::path::PathBuf),
    /// Laboratory: into memory.
    #[cfg(feature = "lab")]
    Inbox,
}

/// An address with the name that mail readers show, on one side of our mails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Correspondent(Mailbox);

impl MailConfig {
    /// Checks what needs no other file.
    pub fn check(&self) -> Result<(), MailConfigError> {
        let wrong = |field, expected| Err(MailConfigError::Field { field, expected });
        if self.connections == 0 || self.connections > CONNECTIONS_MAX {
            return wrong("connections", "should be 1 to 64");
        }
        if self.waiting_max == 0 || self.waiting_max_mib == 0 {
            return wrong("waiting_max", "should be at least 1, and waiting_max_mib too");
        }
        if self.timeout < Duration::from_millis(100) {
            return wrong("timeout_ms", "should be at least 100");
        }
        if self.transport != TransportConfig::Smtp {
            return Ok(());
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte))
        };
        if !is_name(&self.host) {
            return wrong("host", "should be the name or the address of an SMTP server");
        }
        if self.hello_name.as_deref().is_some_and(|name| !is_name(name)) {
            return wrong("hello_name", "should be the name or the address of this machine");
        }
        let is_loopback = self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        if self.tls == TlsMode::None && !is_loopback && cfg!(not(feature = "lab")) {
            return wrong(
                "tls",
                "may be `none` only for a server on this machine; it should be `implicit` or `starttls`",
            );
        }
        if self.user.is_some() != self.password_file.is_some() {
            return wrong("password_file", "stands beside `user`, or neither does");
        }
        Ok(())
    }

    /// What the mailer needs; reads the files that are named.
    pub fn settings(&self, data: &Path, public_url: &PublicUrl) -> Result<MailSettings, MailConfigError> {
        self.check()?;
        Ok(MailSettings {
            directory: data.join("outbox"),
            public_url: public_url.clone(),
            sender: SenderAddresses {
                from: self.from.0.clone(),
                reply_to: self.reply_to.clone().map(|reply_to| reply_to.0),
                bounces_to: self.bounces_to.clone().map(|bounces_to| bounces_to.0),
            },
            transport: match &self.transport {
                TransportConfig::Smtp => TransportSettings::Smtp(self.smtp(public_url)?),
                #[cfg(feature = "lab")]
                TransportConfig::File(path) => TransportSettings::Directory(path.clone()),
                #[cfg(feature = "lab")]
                TransportConfig::Inbox => TransportSettings::Inbox(std::sync::Arc::default()),
            },
            room: Room {
                mails_max: self.waiting_max,
                bytes_max: self.waiting_max_mib.saturating_mul(1 << 20),
            },
            pace: Pace {
                connections_max: self.connections,
                ..Pace::default()
            },
        })
    }

    fn smtp(&self, public_url: &PublicUrl) -> Result<SmtpSettings, MailConfigError> {
        let file = |field, path: &Path| {
            let path = path.to_path_buf();
            move |source| MailConfigError::File { field, path, source }
        };
        let roots = match &self.ca_file {
            Some(path) => Some(fs::read(path).map_err(file("ca_file", path))?),
            None => None,
        };
        let credentials = match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => {
                let password = read_password(path).map_err(file("password_file", path))?;
                Some((user.clone(), password))
            }
            _ => None,
        };
        Ok(SmtpSettings {
            host: self.host.clone(),
            port: self.port.unwrap_or_else(|| self.tls.port()),
            tls: self.tls,
            roots,
            credentials,
            hello_name: self
                .hello_name
                .clone()
                .unwrap_or_else(|| public_url.host().trim_matches(['[', ']']).to_owned()),
            timeout: self.timeout,
        })
    }
}

/// The first line.
fn read_password(path: &Path) -> io::Result<Zeroizing<String>> {
    let invalid = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    if fs::metadata(path)?.len() > PASSWORD_BYTES_MAX {
        return Err(invalid("too long for a password"));
    }
    let mut text = fs::read_to_string(path)?;
    let password = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    text.zeroize();
    if password.is_empty() || password.contains(char::is_control) {
        return Err(invalid("expected a password on one line, and nothing else"));
    }
    Ok(password)
}

const CONNECTIONS_MAX: usize = 64;

fn four() -> usize {
    Pace::default().connections_max
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

fn mails_max() -> usize {
    Room::default().mails_max
}

fn mib_max() -> u64 {
    Room::default().bytes_max >> 20
}

impl FromStr for TransportConfig {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<TransportConfig, &'static str> {
        match text {
            "smtp" => Ok(TransportConfig::Smtp),
            #[cfg(feature = "lab")]
            "inbox" => Ok(TransportConfig::Inbox),
            #[cfg(feature = "lab")]
            _ if text.len() > "file:".len() && text.starts_with("file:") => {
                Ok(TransportConfig::File(text["file:".len()..].into()))
            }
            #[cfg(feature = "lab")]
            _ => Err("expected \"smtp\", \"inbox\" or \"file:DIRECTORY\""),
            #[cfg(not(feature = "lab"))]
            _ => Err("expected \"smtp\""),
        }
    }
}

impl Serialize for TransportConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            TransportConfig::Smtp => serializer.serialize_str("smtp"),
            #[cfg(feature = "lab")]
            TransportConfig::File(path) => serializer.collect_str(&format_args!("file:{}", path.display())),
            #[cfg(feature = "lab")]
            TransportConfig::Inbox => serializer.serialize_str("inbox"),
        }
    }
}

impl<'de> Deserialize<'de> for TransportConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl FromStr for Correspondent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Correspondent, &'static str> {
        const EXPECTED: &str = "expected an address like `Persona <no-reply@persona.example>`";
        if text.contains(char::is_control) {
            return Err(EXPECTED);
        }
        let mailbox: Mailbox = text.parse().map_err(|_| EXPECTED)?;
        // Its domain goes out in ASCII.
        let address = Address::parse(mailbox.email.as_ref()).map_err(|_| EXPECTED)?;
        let email = address.mailbox().parse().map_err(|_| EXPECTED)?;
        Ok(Correspondent(Mailbox::new(mailbox.name, email)))
    }
}

impl Serialize for Correspondent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Correspondent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "from = \"Persona <no-reply@persona.example>\"\nhost = \"smtp.example\"\n";

    fn parse(more: &str) -> Result<MailConfig, String> {
        let config: MailConfig =
            toml::from_str(&format!("{GOOD}{more}")).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[track_caller]
    fn check(more: &str, expected: &str) {
        let message = parse(more).err().unwrap_or_else(|| "no error".to_owned());
        assert!(message.contains(expected), "`{expected}` is not in: {message}");
    }

    #[test]
    fn mistakes_name_the_field_and_what_it_should_be() {
        check("tls = \"maybe\"", "implicit");
        check("connections = 0", "`mail.connections`");
        check("timeout_ms = 1", "`mail.timeout_ms`");
        check("user = \"persona\"", "`mail.password_file`");
        check("transport = \"pigeon\"", "expected \"smtp\"");
        check("transport = \"file:\"", "expected \"smtp\"");
        check("hello_name = \"a\\r\\nb\"", "`mail.hello_name`");
        check("reply_to = \"nobody\"", "expected an address");
        check(
            "bounces_to = \"a\\r\\nBcc: b <a@b.example>\"",
            "expected an address",
        );
        check("colour = 1", "unknown field");
    }

    #[test]
    fn what_is_not_said_is_as_the_standards_have_it() {
        let config = parse("reply_to = \"Hilfe <hilfe@b\u{fc}cher.example>\"").expect("good");
        let url = "https://persona.example".parse().expect("a URL");
        let settings = config.settings(Path::new("data"), &url).expect("settings");
        assert_eq!(settings.directory, Path::new("data/outbox"));
        let reply_to = settings.sender.reply_to.expect("given");
        assert_eq!(reply_to.email.domain(), "xn--bcher-kva.example");
        let TransportSettings::Smtp(smtp) = settings.transport else {
            panic!("not SMTP")
        };
        assert_eq!((smtp.port, smtp.tls), (465, TlsMode::Implicit));
        assert_eq!(smtp.hello_name, "persona.example");
        let again: MailConfig = toml::from_str(&toml::to_string(&config).expect("written")).expect("read");
        assert_eq!(format!("{config:?}"), format!("{again:?}"));
    }

    #[test]
    fn a_password_is_one_line_of_a_file_and_in_no_log() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("password");
        let more = format!("user = \"persona\"\npassword_file = {path:?}");
        let config = parse(&more).expect("good");
        let url = "https://persona.example".parse().expect("a URL");
        let settings = || config.settings(Path::new("data"), &url);
        let message = settings().expect_err("no file").to_string();
        assert!(message.contains("`mail.password_file`"), "{message}");
        fs::write(&path, "two\nlines\n").expect("written");
        settings().expect_err("two lines");
        fs::write(&path, "h3mlig\n").expect("written");
        let settings = settings().expect("settings");
        assert!(!format!("{settings:?}").contains("h3mlig"));
        let TransportSettings::Smtp(smtp) = settings.transport else {
            panic!("not SMTP")
        };
        let (user, password) = smtp.credentials.expect("given");
        assert_eq!((user.as_str(), password.as_str()), ("persona", "h3mlig"));
    }
}
