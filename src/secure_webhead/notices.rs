//! Mails that tell people what was done to their account, in case it was not them.
//!
//! A notice that cannot be posted takes nothing back: what was done is done, and was answered. It is counted and logged.

use crdt::AccountId;

use super::SecureWebhead;
use crate::{
    identity::Address,
    mail::{Mail, Message, Notice},
};

impl SecureWebhead {
    /// Tells every verified address of an account.
    pub(super) async fn notify(&self, account: AccountId, notice: Notice) {
        let addresses = self.verified_addresses(account).await;
        self.notify_these(addresses, &notice).await;
    }

    /// Tells these.
    pub(super) async fn notify_these(&self, addresses: Vec<Address>, notice: &Notice) {
        for to in addresses {
            let mail = Mail {
                to,
                message: Message::Notice(notice.clone()),
            };
            // The mailer has counted and logged it.
            let _ = self.mailer.post(mail).await;
        }
    }

    /// Whom to tell. Before something is done that leaves fewer.
    pub(super) async fn verified_addresses(&self, account: AccountId) -> Vec<Address> {
        match self.reception.directory.account(account).await {
            Ok(state) => state
                .into_iter()
                .flat_map(|state| state.emails)
                .filter(|held| held.verified)
                .map(|held| held.address)
                .collect(),
            Err(error) => {
                tracing::warn!(%error, "nobody could be told of a change to their account");
                Vec::new()
            }
        }
    }
}
