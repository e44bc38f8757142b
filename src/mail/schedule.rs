//! Which mail is tried when: a pure state machine.
//!
//! Time is what passed since the machine was made; it and chance come in as arguments.
//!
//! Promises: no more mails are under way than there are connections; a mail that fails waits for itself alone; a server
//! that fails is asked by one mail at a time until it answers; and a mail as old as it may get is given up, whatever
//! else happens.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::outbox::MailId;

/// How fast, how often and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Mails under way at once, each on a connection of its own.
    pub connections_max: usize,
    /// Before a mail is tried a second time; each further wait is twice as long.
    pub retry_first: Duration,
    /// The longest such wait.
    pub retry_max: Duration,
    /// Before a server that could not be talked to is asked again; each further wait is twice as long.
    pub pause_first: Duration,
    /// The longest such wait.
    pub pause_max: Duration,
    /// Since it was posted, after which a mail is given up: its link is dead by then.
    pub age_max: Duration,
    /// Before somebody is asked what became of that for which a mail is kept back, if nobody says so.
    pub undecided_max: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            connections_max: 4,
            retry_first: Duration::from_secs(10),
            retry_max: Duration::from_secs(30 * 60),
            pause_first: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
            age_max: Duration::from_secs(24 * 3600),
            // Longer than a request takes.
            undecided_max: Duration::from_secs(30),
        }
    }
}

/// What is to be done with a mail. Whoever does it says how it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Try it: [`Schedule::tried`] tells the outcome.
    Send(MailId),
    /// Erase it: it is too old, and already forgotten here.
    GiveUp(MailId),
}

/// How a try went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The mail is no longer ours: accepted, refused for good, or damaged.
    Done,
    /// The server will have it later (RFC 5321 §4.2.1, 4yz).
    Later,
    /// The server could not be talked to, or would not talk; that may be the mail's fault or not.
    Silence,
}

pub(super) struct Schedule {
    pace: Pace,
    mails: HashMap<MailId, Waiting>,
    /// Those not under way, by when they are to be tried.
    due: BTreeSet<(Duration, MailId)>,
    /// All, by when they are given up.
    ends: BTreeSet<(Duration, MailId)>,
    under_way: usize,
    /// How often in a row the server could not be talked to.
    silences: u32,
    paused_until: Duration,
}

struct Waiting {
    tries: u32,
    end: Duration,
    /// `None` while it is under way.
    due: Option<Duration>,
}

impl Schedule {
    pub(super) fn new(pace: Pace) -> Schedule {
        Schedule {
            pace,
            mails: HashMap::new(),
            due: BTreeSet::new(),
            ends: BTreeSet::new(),
            under_way: 0,
            silences: 0,
            paused_until: Duration::ZERO,
        }
    }

    /// Takes a mail in, `age` after it was posted.
    pub(super) fn add(&mut self, now: Duration, id: MailId, age: Duration) {
        let end = now.saturating_add(self.pace.age_max.saturating_sub(age));
        let waiting = Waiting {
            tries: 0,
            end,
            due: Some(now),
        };
        if self.mails.insert(id, waiting).is_none() {
            self.due.insert((now, id));
            self.ends.insert((end, id));
        }
    }

    /// Gives one thing to do, or `None` when there is nothing now.
    pub(super) fn poll(&mut self, now: Duration) -> Option<Step> {
        if let Some((_, id)) = self.first_end().filter(|(end, _)| *end <= now) {
            self.forget(id);
            return Some(Step::GiveUp(id));
        }
        if !self.may_send() || now < self.paused_until {
            return None;
        }
        let (at, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.remove(&(at, id));
        if let Some(mail) = self.mails.get_mut(&id) {
            mail.due = None;
        }
        self.under_way += 1;
        Some(Step::Send(id))
    }

    /// Takes in how a try went. `chance` is uniform in 0 to 1: mails that failed together do not come back together.
    pub(super) fn tried(&mut self, now: Duration, id: MailId, outcome: Outcome, chance: f64) {
        self.under_way = self.under_way.saturating_sub(1);
        match outcome {
            Outcome::Done | Outcome::Later => {
                self.silences = 0;
                self.paused_until = Duration::ZERO;
            }
            Outcome::Silence => {
                let wait = backoff(self.pace.pause_first, self.pace.pause_max, self.silences, chance);
                self.silences = self.silences.saturating_add(1);
                self.paused_until = now.saturating_add(wait);
            }
        }
        if outcome == Outcome::Done {
            self.forget(id);
            return;
        }
        if let Some(mail) = self.mails.get_mut(&id) {
            let wait = backoff(self.pace.retry_first, self.pace.retry_max, mail.tries, chance);
            mail.tries = mail.tries.saturating_add(1);
            let due = now.saturating_add(wait);
            mail.due = Some(due);
            self.due.insert((due, id));
        }
    }

    /// When to poll again if nothing else happens first; `None`: never.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let end = self.first_end().map(|(end, _)| end);
        let due = self
            .due
            .first()
            .filter(|_| self.may_send())
            .map(|(due, _)| (*due).max(self.paused_until));
        [end, due].into_iter().flatten().min()
    }

    /// How many mails wait or are under way.
    pub(super) fn waiting(&self) -> usize {
        self.mails.len()
    }

    /// How many of them are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// How long ago the oldest of them was posted.
    pub(super) fn oldest(&self, now: Duration) -> Option<Duration> {
        let (end, _) = self.ends.first()?;
        Some(now.saturating_add(self.pace.age_max).saturating_sub(*end))
    }

    /// The first end of a mail that is not under way: what is being tried is not taken from under who tries it.
    fn first_end(&self) -> Option<(Duration, MailId)> {
        let idle = |id| self.mails.get(id).is_some_and(|mail| mail.due.is_some());
        self.ends.iter().find(|(_, id)| idle(id)).copied()
    }

    fn may_send(&self) -> bool {
        let at_once = if self.silences == 0 {
            self.pace.connections_max
        } else {
            1
        };
        self.under_way < at_once
    }

    fn forget(&mut self, id: MailId) {
        if let Some(mail) = self.mails.remove(&id) {
            self.ends.remove(&(mail.end, id));
            if let Some(due) = mail.due {
                self.due.remove(&(due, id));
            }
        }
    }
}

/// `first`, doubled `times` times, no more than `max`; of that, a part between half and all.
fn backoff(first: Duration, max: Duration, times: u32, chance: f64) -> Duration {
    let full = first
        .saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX))
        .min(max);
    full.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn id(number: u8) -> MailId {
        MailId::of(number)
    }

    fn schedule(connections_max: usize) -> Schedule {
        Schedule::new(Pace {
            connections_max,
            ..Pace::default()
        })
    }

    fn all(schedule: &mut Schedule, now: Duration) -> Vec<Step> {
        std::iter::from_fn(|| schedule.poll(now)).collect()
    }

    #[track_caller]
    fn check(times: u32, chance: f64, expected: Duration) {
        assert_eq!(backoff(s(10), s(1800), times, chance), expected);
    }

    #[test]
    fn waits_double_and_end_growing() {
        check(0, 1.0, s(10));
        check(0, 0.0, s(5));
        check(1, 1.0, s(20));
        check(2, 0.5, s(30));
        check(7, 1.0, s(1280));
        check(8, 1.0, s(1800));
        check(31, 1.0, s(1800));
        check(u32::MAX, 0.0, s(900));
        check(0, f64::INFINITY, s(10));
    }

    #[test]
    fn mails_go_out_at_once_up_to_the_connections_there_are() {
        let mut schedule = schedule(2);
        for number in 1..=3 {
            schedule.add(s(1), id(number), s(0));
        }
        assert_eq!(all(&mut schedule, s(1)), [Step::Send(id(1)), Step::Send(id(2))]);
        assert_eq!((schedule.waiting(), schedule.under_way()), (3, 2));
        schedule.tried(s(2), id(2), Outcome::Done, 0.5);
        assert_eq!(all(&mut schedule, s(2)), [Step::Send(id(3))]);
        schedule.tried(s(3), id(1), Outcome::Done, 0.5);
        schedule.tried(s(3), id(3), Outcome::Done, 0.5);
        assert_eq!((schedule.waiting(), schedule.deadline()), (0, None));
    }

    #[test]
    fn a_mail_that_is_put_off_holds_up_no_other() {
        let mut schedule = schedule(1);
        schedule.add(s(0), id(1), s(0));
        assert_eq!(all(&mut schedule, s(0)), [Step::Send(id(1))]);
        schedule.add(s(1), id(2), s(0));
        schedule.tried(s(1), id(1), Outcome::Later, 1.0);
        assert_eq!(all(&mut schedule, s(1)), [Step::Send(id(2))]);
        schedule.tried(s(1), id(2), Outcome::Done, 1.0);
        assert_eq!(schedule.deadline(), Some(s(11)));
        assert_eq!(all(&mut schedule, s(10)), []);
        assert_eq!(all(&mut schedule, s(11)), [Step::Send(id(1))]);
        schedule.tried(s(11), id(1), Outcome::Later, 1.0);
        assert_eq!(schedule.deadline(), Some(s(31)));
    }

    #[test]
    fn a_silent_server_is_asked_by_one_mail_at_a_time_and_each_time_by_another() {
        let mut schedule = schedule(4);
        for number in 1..=4 {
            schedule.add(s(0), id(number), s(0));
        }
        assert_eq!(all(&mut schedule, s(0)).len(), 4);
        for number in 1..=4 {
            schedule.tried(s(0), id(number), Outcome::Silence, 1.0);
        }
        // 1, 2, 4, 8 seconds; and each mail waits ten of its own.
        assert_eq!(schedule.deadline(), Some(s(10)));
        assert_eq!(all(&mut schedule, s(10)), [Step::Send(id(1))]);
        assert_eq!(schedule.deadline(), Some(s(24 * 3600)), "one is asking");
        schedule.tried(s(10), id(1), Outcome::Silence, 1.0);
        assert_eq!(schedule.deadline(), Some(s(26)));
        assert_eq!(all(&mut schedule, s(26)), [Step::Send(id(2))]);
        // It answers, though it says no: the others need not wait.
        schedule.tried(s(26), id(2), Outcome::Later, 1.0);
        assert_eq!(all(&mut schedule, s(26)), [Step::Send(id(3)), Step::Send(id(4))]);
    }

    #[test]
    fn a_mail_is_given_up_at_its_age_whatever_happens() {
        let day = s(24 * 3600);
        let mut schedule = schedule(2);
        // One waited out a restart, one is from a clock that went wrong.
        schedule.add(s(0), id(1), day - s(5));
        schedule.add(s(0), id(2), day + s(5));
        schedule.add(s(0), id(3), s(0));
        assert_eq!(schedule.oldest(s(0)), Some(day));
        assert_eq!(
            all(&mut schedule, s(0)),
            [Step::GiveUp(id(2)), Step::Send(id(1)), Step::Send(id(3))]
        );
        assert_eq!(schedule.oldest(s(1)), Some(day - s(4)));
        // Both are being tried.
        assert_eq!(schedule.deadline(), None);
        assert_eq!(all(&mut schedule, s(6)), []);
        schedule.tried(s(6), id(1), Outcome::Silence, 0.0);
        assert_eq!(all(&mut schedule, s(6)), [Step::GiveUp(id(1))]);
        // Also while the server is not asked.
        schedule.tried(s(7), id(3), Outcome::Silence, 0.0);
        assert_eq!(all(&mut schedule, day), [Step::GiveUp(id(3))]);
        assert_eq!(schedule.waiting(), 0);
    }

    #[test]
    fn a_mail_is_tried_dozens_of_times_in_its_day() {
        let mut schedule = schedule(1);
        schedule.add(s(0), id(1), s(0));
        let (mut tries, mut now) = (0, s(0));
        loop {
            match schedule.poll(now) {
                Some(Step::Send(id)) => {
                    tries += 1;
                    schedule.tried(now, id, Outcome::Later, 1.0);
                }
                Some(Step::GiveUp(_)) => break,
                None => now = schedule.deadline().expect("it waits"),
            }
        }
        assert_eq!((tries, now), (55, s(24 * 3600)));
    }
}
