//! Where mails go from the outbox: to an SMTP server; in a laboratory also into a directory or an inbox.

#[cfg(feature = "lab")]
use std::{path::PathBuf, sync::Arc};

#[cfg(feature = "lab")]
use super::inbox::{self, Inbox};
use super::{
    outbox::{Entry, MailId},
    smtp::{Sent, Smtp, SmtpSettings, TlsError},
};

/// Where mails go.
#[derive(Clone, Debug)]
pub enum TransportSettings {
    /// To a server.
    Smtp(SmtpSettings),
    /// Laboratory: into this directory, a file each.
    #[cfg(feature = "lab")]
    Directory(PathBuf),
    /// Laboratory: into this process's memory.
    #[cfg(feature = "lab")]
    Inbox(Arc<Inbox>),
}

#[cfg(feature = "lab")]
impl TransportSettings {
    /// Where what was sent can be read again; of what went to a server, nowhere.
    pub fn mails(&self) -> Option<inbox::Mails> {
        match self {
            TransportSettings::Smtp(_) => None,
            TransportSettings::Directory(path) => Some(inbox::Mails::Directory(path.clone())),
            TransportSettings::Inbox(inbox) => Some(inbox.clone().into()),
        }
    }
}

pub(super) enum Transport {
    Smtp(Box<Smtp>),
    #[cfg(feature = "lab")]
    Directory(PathBuf),
    #[cfg(feature = "lab")]
    Inbox(Arc<Inbox>),
}

impl Transport {
    pub(super) fn new(settings: TransportSettings) -> Result<Transport, TlsError> {
        Ok(match settings {
            TransportSettings::Smtp(settings) => Transport::Smtp(Box::new(Smtp::new(settings)?)),
            #[cfg(feature = "lab")]
            TransportSettings::Directory(path) => Transport::Directory(path),
            #[cfg(feature = "lab")]
            TransportSettings::Inbox(inbox) => Transport::Inbox(inbox),
        })
    }

    /// Offers a mail once.
    #[cfg_attr(not(feature = "lab"), expect(unused_variables))]
    pub(super) async fn send(&self, id: MailId, entry: &Entry) -> Sent {
        match self {
            Transport::Smtp(smtp) => smtp.send(entry).await,
            #[cfg(feature = "lab")]
            Transport::Directory(path) => match inbox::write_file(path, id, entry).await {
                Ok(()) => Sent::Accepted,
                Err(error) => Sent::Silence(error.to_string()),
            },
            #[cfg(feature = "lab")]
            Transport::Inbox(inbox) => {
                inbox.receive(id, entry);
                Sent::Accepted
            }
        }
    }

    /// Ends connections that have no work: those that had none for long, or all.
    pub(super) async fn rest(&self, all: bool) {
        match self {
            Transport::Smtp(smtp) => smtp.rest(all).await,
            #[cfg(feature = "lab")]
            Transport::Directory(_) | Transport::Inbox(_) => {}
        }
    }
}
