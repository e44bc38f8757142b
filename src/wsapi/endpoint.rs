//! Every call that there is: its name, its method, and the tier that answers it.
//!
//! The names are the original's, and some new ones at the end of each table. What is not in here is answered "no such api".

use axum::http::Method;

use crate::{limits::Cost, tiers::Tier};

/// Where all calls lie.
pub const PREFIX: &str = "/wsapi/";

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// After [`PREFIX`].
    pub name: &'static str,
    /// The one method that it takes.
    pub method: Method,
    /// Who answers it.
    pub tier: Tier,
    /// What it makes us do.
    pub cost: Cost,
}

impl Endpoint {
    /// The call of this name.
    pub fn named(name: &str) -> Option<&'static Endpoint> {
        ENDPOINTS.iter().find(|endpoint| endpoint.name == name)
    }
}

const fn get(name: &'static str, tier: Tier, cost: Cost) -> Endpoint {
    Endpoint {
        name,
        method: Method::GET,
        tier,
        cost,
    }
}

const fn post(name: &'static str, tier: Tier, cost: Cost) -> Endpoint {
    Endpoint {
        name,
        method: Method::POST,
        tier,
        cost,
    }
}

/// All of them. Who may only read answers what is only read; `address_info` and `discovery` ask strangers' hosts, and note
/// when a domain was seen as an IdP, so the tier that may do both answers them.
pub const ENDPOINTS: &[Endpoint] = &[
    get("session_context", Tier::Webhead, Cost::Read),
    get("have_email", Tier::Webhead, Cost::Read),
    get("list_emails", Tier::Webhead, Cost::Read),
    get("user_creation_status", Tier::Webhead, Cost::Read),
    get("email_addition_status", Tier::Webhead, Cost::Read),
    get("email_reverify_status", Tier::Webhead, Cost::Read),
    get("password_reset_status", Tier::Webhead, Cost::Read),
    get("transition_status", Tier::Webhead, Cost::Read),
    get("email_for_token", Tier::Webhead, Cost::Read),
    post("interaction_data", Tier::Webhead, Cost::Read),
    get("ping", Tier::Webhead, Cost::Read),
    get("account_details", Tier::Webhead, Cost::Read),
    get("list_sessions", Tier::Webhead, Cost::Read),
    get("address_info", Tier::SecureWebhead, Cost::Fetch),
    get("discovery", Tier::SecureWebhead, Cost::Fetch),
    post("authenticate_user", Tier::SecureWebhead, Cost::Password),
    post("auth_with_assertion", Tier::SecureWebhead, Cost::Fetch),
    post("logout", Tier::SecureWebhead, Cost::Write),
    post("prolong_session", Tier::SecureWebhead, Cost::Write),
    post("stage_user", Tier::SecureWebhead, Cost::Mail),
    post("complete_user_creation", Tier::SecureWebhead, Cost::Password),
    post("stage_email", Tier::SecureWebhead, Cost::Mail),
    post("complete_email_confirmation", Tier::SecureWebhead, Cost::Password),
    post("stage_reset", Tier::SecureWebhead, Cost::Mail),
    post("complete_reset", Tier::SecureWebhead, Cost::Password),
    post("stage_reverify", Tier::SecureWebhead, Cost::Mail),
    post("stage_transition", Tier::SecureWebhead, Cost::Mail),
    post("complete_transition", Tier::SecureWebhead, Cost::Password),
    post("update_password", Tier::SecureWebhead, Cost::Password),
    post("add_email_with_assertion", Tier::SecureWebhead, Cost::Fetch),
    post("remove_email", Tier::SecureWebhead, Cost::Write),
    post("account_cancel", Tier::SecureWebhead, Cost::Write),
    post("used_address_as_primary", Tier::SecureWebhead, Cost::Fetch),
    post("complete_by_code", Tier::SecureWebhead, Cost::Password),
    post("end_session", Tier::SecureWebhead, Cost::Write),
    post("sign_out_everywhere", Tier::SecureWebhead, Cost::Write),
    post("cert_key", Tier::Keysigner, Cost::Verify),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_is_there_once_and_none_of_the_originals_is_missing() {
        let names: BTreeSet<_> = ENDPOINTS.iter().map(|endpoint| endpoint.name).collect();
        assert_eq!(names.len(), ENDPOINTS.len());
        let originals = "session_context address_info have_email authenticate_user auth_with_assertion cert_key list_emails \
             logout prolong_session user_creation_status email_addition_status email_reverify_status \
             password_reset_status transition_status email_for_token discovery interaction_data ping stage_user \
             complete_user_creation stage_email complete_email_confirmation stage_reset complete_reset stage_reverify \
             stage_transition complete_transition update_password add_email_with_assertion remove_email account_cancel \
             used_address_as_primary";
        for original in originals.split_whitespace() {
            assert!(names.contains(original), "{original}");
        }
    }

    #[test]
    fn what_was_for_insiders_only_is_not_there() {
        for inside in [
            "create_account_with_assertion",
            "user_used_email_as",
            "saw_idp",
            "forget_idp",
            "increment_failed_auth_tries",
            "reset_failed_auth_tries",
        ] {
            assert_eq!(Endpoint::named(inside), None);
        }
    }
}
