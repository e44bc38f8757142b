//! What people who use the service do with it in a day, and which requests that makes.
//!
//! The model is the original service's own (`bin/load_gen`): an active user comes to four web sites ten times a day each. At
//! one visit in five they sign in, because the web site has forgotten them; now and then they sign up, forget a password, add
//! an address. Its author said later that the numbers were made up; they are kept so that results can be compared. Two
//! differences, both because this service differs: a forgotten password is reset by mail, where the original signed the
//! person up again, and an assertion is signed for every sign-in, where the original had thirty ready.

use std::{fmt, str::FromStr};

use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// Activities of one active user in a day: four web sites, ten visits each.
const ACTIVITIES_A_DAY: f64 = 40.0;
const SECONDS_A_DAY: f64 = 86_400.0;

/// One thing that somebody does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Activity {
    /// Comes to a web site that has the script, and does not sign in.
    IncludeOnly,
    /// Signs in to a web site.
    SignIn,
    /// Their browser tells how the dialog went: of a tenth of the dialogs.
    InteractionData,
    /// Comes for the first time.
    SignUp,
    /// Has to give the password again, weekly.
    Reauth,
    /// Adds an address, fortnightly.
    AddEmail,
    /// Has forgotten the password, every four weeks.
    ResetPassword,
    /// Changes it, every eight weeks.
    ChangePassword,
}

/// How often each activity comes, compared with the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mix {
    /// As the original service's model has it.
    Model,
    /// One as often as any other, so that a short run sees all of them.
    Even,
}

/// One request, by what is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Call {
    /// The script of web sites.
    IncludeJs,
    /// `session_context`.
    SessionContext,
    /// `list_emails`.
    ListEmails,
    /// `/verify`, which the web site's server asks.
    Verify,
    /// `interaction_data`.
    InteractionData,
    /// `authenticate_user`.
    AuthenticateUser,
    /// `cert_key`.
    CertKey,
    /// `stage_user`.
    StageUser,
    /// `complete_user_creation`.
    CompleteUserCreation,
    /// `stage_email`.
    StageEmail,
    /// `complete_email_confirmation`.
    CompleteEmailConfirmation,
    /// `email_addition_status`.
    EmailAdditionStatus,
    /// `stage_reset`.
    StageReset,
    /// `complete_reset`.
    CompleteReset,
    /// `update_password`.
    UpdatePassword,
}

use Call::{
    AuthenticateUser, CertKey, CompleteEmailConfirmation, CompleteReset, CompleteUserCreation,
    EmailAdditionStatus, IncludeJs, ListEmails, SessionContext, StageEmail, StageReset, StageUser,
    UpdatePassword, Verify,
};

/// What every sign-in ends with: the addresses to choose from, a context that is fresh for the web site's script, and the
/// question of the web site's server.
const SIGN_IN: &[Call] = &[ListEmails, SessionContext, Verify];

impl Activity {
    /// Every one, in the order of reports.
    pub(crate) const ALL: [Activity; 8] = [
        Activity::IncludeOnly,
        Activity::SignIn,
        Activity::InteractionData,
        Activity::SignUp,
        Activity::Reauth,
        Activity::AddEmail,
        Activity::ResetPassword,
        Activity::ChangePassword,
    ];

    /// In reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Activity::IncludeOnly => "include_only",
            Activity::SignIn => "signin",
            Activity::InteractionData => "interaction_data",
            Activity::SignUp => "signup",
            Activity::Reauth => "reauth",
            Activity::AddEmail => "add_email",
            Activity::ResetPassword => "reset_pass",
            Activity::ChangePassword => "change_pass",
        }
    }

    /// How often, compared with the others.
    const fn weight(self, mix: Mix) -> f64 {
        if matches!(mix, Mix::Even) {
            return 1.0;
        }
        match self {
            Activity::IncludeOnly => 31.0 / 40.0,
            Activity::SignIn => 8.0 / 40.0,
            Activity::InteractionData => 9.0 / 400.0,
            Activity::SignUp => 1.0 / 224.0,
            Activity::Reauth => 1.0 / 280.0,
            Activity::AddEmail => 1.0 / 560.0,
            Activity::ResetPassword => 1.0 / 1120.0,
            Activity::ChangePassword => 1.0 / 2240.0,
        }
    }

    /// Which share of all activities it is.
    pub(crate) fn share(self, mix: Mix) -> f64 {
        let weights: f64 = Activity::ALL.iter().map(|activity| activity.weight(mix)).sum();
        self.weight(mix) / weights
    }

    /// How often in a second, of so many active users.
    pub(crate) fn rate(self, mix: Mix, users: f64) -> f64 {
        activities(users) * self.share(mix)
    }

    /// The requests that it makes, in order, of somebody whose browser knows them. One that does not also asks for
    /// [`SessionContext`], [`AuthenticateUser`] and [`CertKey`]; one whose certificate is over, for [`CertKey`].
    pub(crate) fn calls(self) -> impl Iterator<Item = Call> {
        let (first, last): (&[Call], &[Call]) = match self {
            Activity::IncludeOnly => (&[IncludeJs], &[]),
            Activity::SignIn => (&[], SIGN_IN),
            Activity::InteractionData => (&[SessionContext, Call::InteractionData], &[]),
            Activity::SignUp => (
                &[
                    SessionContext,
                    StageUser,
                    CompleteUserCreation,
                    AuthenticateUser,
                    CertKey,
                ],
                SIGN_IN,
            ),
            Activity::Reauth => (&[SessionContext, AuthenticateUser], SIGN_IN),
            Activity::AddEmail => (
                &[
                    StageEmail,
                    CompleteEmailConfirmation,
                    EmailAdditionStatus,
                    CertKey,
                ],
                SIGN_IN,
            ),
            Activity::ResetPassword => (
                &[
                    SessionContext,
                    StageReset,
                    CompleteReset,
                    AuthenticateUser,
                    CertKey,
                ],
                SIGN_IN,
            ),
            Activity::ChangePassword => (&[UpdatePassword], &[]),
        };
        first.iter().chain(last).copied()
    }

    /// The requests a second of so many active users, when all is well and every browser knows its user.
    pub(crate) fn requests(mix: Mix, users: f64) -> f64 {
        let of = |activity: &Activity| activity.rate(mix, users) * activity.calls().count() as f64;
        Activity::ALL.iter().map(of).sum()
    }

    /// Whether somebody has to prove an address by mail for it.
    pub(crate) const fn takes_mail(self) -> bool {
        matches!(
            self,
            Activity::SignUp | Activity::AddEmail | Activity::ResetPassword
        )
    }

    /// Whether it is done by somebody who has an account.
    pub(crate) const fn takes_account(self) -> bool {
        !matches!(
            self,
            Activity::IncludeOnly | Activity::InteractionData | Activity::SignUp
        )
    }
}

impl Call {
    /// Every one, in the order of reports.
    pub(crate) const ALL: [Call; 15] = [
        IncludeJs,
        SessionContext,
        ListEmails,
        Verify,
        Call::InteractionData,
        AuthenticateUser,
        CertKey,
        StageUser,
        CompleteUserCreation,
        StageEmail,
        CompleteEmailConfirmation,
        EmailAdditionStatus,
        StageReset,
        CompleteReset,
        UpdatePassword,
    ];

    /// In reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            IncludeJs => "include.js",
            SessionContext => "session_context",
            ListEmails => "list_emails",
            Verify => "verify",
            Call::InteractionData => "interaction_data",
            AuthenticateUser => "authenticate_user",
            CertKey => "cert_key",
            StageUser => "stage_user",
            CompleteUserCreation => "complete_user_creation",
            StageEmail => "stage_email",
            CompleteEmailConfirmation => "complete_email_confirmation",
            EmailAdditionStatus => "email_addition_status",
            StageReset => "stage_reset",
            CompleteReset => "complete_reset",
            UpdatePassword => "update_password",
        }
    }

    /// Whether a password is hashed for it, on purpose slowly: goals of latency are for the others. A staged password is
    /// hashed when it is staged, a reset's when it is completed.
    pub(crate) const fn hashes_password(self) -> bool {
        matches!(
            self,
            AuthenticateUser | StageUser | CompleteReset | UpdatePassword
        )
    }
}

/// Activities a second of so many active users.
pub(crate) fn activities(users: f64) -> f64 {
    users * ACTIVITIES_A_DAY / SECONDS_A_DAY
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such activity.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "expected include_only, signin, interaction_data, signup, reauth, add_email, reset_pass or change_pass"
)]
pub(crate) struct NoActivity;

impl FromStr for Activity {
    type Err = NoActivity;

    fn from_str(text: &str) -> Result<Activity, NoActivity> {
        Activity::ALL
            .into_iter()
            .find(|activity| activity.name() == text)
            .ok_or(NoActivity)
    }
}

impl Serialize for Activity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLION: f64 = 1_000_000.0;

    /// Equal when rounded as the table of the original's model is.
    #[track_caller]
    fn check(name: &str, rate: f64, expected: f64, unit: f64) {
        assert!(
            (rate - expected).abs() <= unit / 2.0 + 1e-9,
            "{name}: {rate} for {expected}"
        );
    }

    #[test]
    fn activities_come_as_often_as_the_original_model_has_them() {
        for (activity, per_second, unit) in [
            (Activity::IncludeOnly, 355.72, 0.01),
            (Activity::SignIn, 91.80, 0.01),
            (Activity::InteractionData, 10.33, 0.01),
            (Activity::SignUp, 2.05, 0.01),
            (Activity::Reauth, 1.64, 0.01),
            (Activity::AddEmail, 0.82, 0.01),
            (Activity::ResetPassword, 0.41, 0.01),
            (Activity::ChangePassword, 0.205, 0.001),
        ] {
            check(
                activity.name(),
                activity.rate(Mix::Model, MILLION),
                per_second,
                unit,
            );
        }
        let all: f64 = Activity::ALL
            .iter()
            .map(|activity| activity.rate(Mix::Model, MILLION))
            .sum();
        check("all", all, MILLION * 40.0 / 86_400.0, 1e-6);
        let shares = |mix| {
            Activity::ALL
                .iter()
                .map(|activity| activity.share(mix))
                .sum::<f64>()
        };
        check("model", shares(Mix::Model), 1.0, 1e-9);
        check("even", shares(Mix::Even), 1.0, 1e-9);
        check("even", Activity::ChangePassword.share(Mix::Even), 0.125, 1e-9);
    }

    #[test]
    fn requests_come_as_often_as_the_original_model_has_them() {
        let rate = |wanted: Call| -> f64 {
            let of = |activity: &Activity| {
                let times = activity.calls().filter(|call| *call == wanted).count();
                activity.rate(Mix::Model, MILLION) * times as f64
            };
            Activity::ALL.iter().map(of).sum()
        };
        for (call, per_second, unit) in [
            (IncludeJs, 356.0, 1.0),
            (SessionContext, 111.0, 1.0),
            (ListEmails, 97.0, 1.0),
            (Verify, 97.0, 1.0),
            (Call::InteractionData, 10.0, 1.0),
            (AuthenticateUser, 4.1, 0.1),
            (CertKey, 3.3, 0.1),
            (StageEmail, 0.8, 0.1),
            (UpdatePassword, 0.2, 0.1),
        ] {
            check(call.name(), rate(call), per_second, unit);
        }
        // The original signed people up again who had forgotten their password.
        check("staged", rate(StageUser) + rate(StageReset), 2.5, 0.1);
        check(
            "completed",
            rate(CompleteUserCreation) + rate(CompleteReset),
            2.5,
            0.1,
        );
        // With a few requests for tokens in mails, which here no site answers, the original's came to 690.
        let all: f64 = Call::ALL.iter().map(|call| rate(*call)).sum();
        check("all", all, 686.0, 2.0);
        check("all", Activity::requests(Mix::Model, MILLION), all, 1e-6);
    }

    #[test]
    fn names_are_different() {
        let calls: std::collections::BTreeSet<_> = Call::ALL.iter().map(|call| call.name()).collect();
        assert_eq!(calls.len(), Call::ALL.len());
        let activities: std::collections::BTreeSet<_> =
            Activity::ALL.iter().map(|activity| activity.name()).collect();
        assert_eq!(activities.len(), Activity::ALL.len());
        for activity in Activity::ALL {
            let named = activity.name().parse::<Activity>();
            assert_eq!(named.ok(), Some(activity));
            assert!(NoActivity.to_string().contains(activity.name()));
        }
        assert!("sign".parse::<Activity>().is_err());
    }
}
