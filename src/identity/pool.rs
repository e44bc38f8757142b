//! A bounded pool of threads for work that holds a processor for tens of milliseconds.
//!
//! Promise: work is taken in only when it is expected to begin within the budget; otherwise its caller learns at
//! once that the pool is busy, and when to come again. A queue that answers late serves nobody: whoever waits has
//! given up by then, and whoever comes next waits behind them.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// Pieces of work that wait at most, whatever is expected of them: what bounds the memory.
const WAITING_MAX: usize = 1024;

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undone {
    /// It would have waited for longer than the budget.
    #[error("too much work is waiting")]
    Busy { retry_after: Duration },
    /// It panicked, or the pool is closing.
    #[error("the work was given up")]
    Lost,
}

/// Named threads and what waits for them. They end when the last handle is dropped and nothing runs.
#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    _closing: Arc<CloseOnDrop>,
}

impl Pool {
    /// Starts `name-0`, `name-1`, …; `typical` is how long one piece of work is expected to take at first.
    pub(super) fn start(name: &str, threads: usize, budget: Duration, typical: Duration) -> io::Result<Pool> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                admission: Admission::new(threads, budget, typical),
                closing: false,
            }),
            wake: Condvar::new(),
        });
        let closing = Arc::new(CloseOnDrop(Arc::clone(&shared)));
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || shared.work())?;
        }
        Ok(Pool {
            shared,
            _closing: closing,
        })
    }

    /// Runs `work` on a thread of the pool. Work whose caller has gone before it began is not done at all.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undone> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            if answer.is_closed() {
                return false;
            }
            if let Ok(value) = catch_unwind(AssertUnwindSafe(work)) {
                let _ = answer.send(value);
            }
            true
        });
        {
            let mut queue = self.shared.lock();
            queue.admission.admit()?;
            queue.jobs.push_back(job);
        }
        self.shared.wake.notify_one();
        answered.await.map_err(|_| Undone::Lost)
    }

    /// Pieces of work that wait, and that run.
    pub(super) fn load(&self) -> (usize, usize) {
        let queue = self.shared.lock();
        (queue.admission.waiting, queue.admission.running)
    }
}

/// One piece of work; it says whether it was done, and never unwinds.
type Job = Box<dyn FnOnce() -> bool + Send>;

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    admission: Admission,
    closing: bool,
}

impl Shared {
    /// Nothing that is done under the lock panics half-way, so a poisoned one holds a whole queue.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            let begun = Instant::now();
            let done = job();
            let took = done.then(|| begun.elapsed());
            self.lock().admission.finish(took);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closing {
                queue.jobs.clear();
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                queue.admission.begin();
                return Some(job);
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.wake.notify_all();
    }
}

/// Whether one more piece of work may come in. Pure: it is told what begins and ends.
#[derive(Debug)]
struct Admission {
    threads: usize,
    budget: Duration,
    /// What one piece takes: an average in which the last one counts for an eighth.
    typical: Duration,
    waiting: usize,
    running: usize,
}

impl Admission {
    fn new(threads: usize, budget: Duration, typical: Duration) -> Admission {
        Admission {
            threads: threads.max(1),
            budget,
            typical,
            waiting: 0,
            running: 0,
        }
    }

    /// How long one more would wait, taking all that runs for just begun.
    fn expected_wait(&self) -> Duration {
        let ahead = (self.waiting + self.running + 1).saturating_sub(self.threads);
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        self.typical.saturating_mul(ahead) / u32::try_from(self.threads).unwrap_or(u32::MAX)
    }

    fn admit(&mut self) -> Result<(), Undone> {
        let wait = self.expected_wait();
        if wait > self.budget || self.waiting >= WAITING_MAX {
            return Err(Undone::Busy {
                retry_after: wait.max(self.typical),
            });
        }
        self.waiting += 1;
        Ok(())
    }

    fn begin(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        self.running += 1;
    }

    /// `took` is `None` for work that was not done because nobody waited for it.
    fn finish(&mut self, took: Option<Duration>) {
        self.running = self.running.saturating_sub(1);
        if let Some(took) = took {
            self.typical = (self.typical.saturating_mul(7).saturating_add(took)) / 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::mpsc,
        task::{Context, Waker},
    };

    use super::*;

    const TYPICAL: Duration = Duration::from_millis(100);

    fn admission(threads: usize, budget_ms: u64) -> Admission {
        Admission::new(threads, Duration::from_millis(budget_ms), TYPICAL)
    }

    #[track_caller]
    fn check_wait(threads: usize, waiting: usize, running: usize, expected_ms: u64) {
        let mut admission = admission(threads, 0);
        (admission.waiting, admission.running) = (waiting, running);
        assert_eq!(admission.expected_wait(), Duration::from_millis(expected_ms));
    }

    #[test]
    fn a_wait_is_the_work_ahead_over_the_threads() {
        check_wait(1, 0, 0, 0);
        check_wait(1, 0, 1, 100);
        check_wait(1, 3, 1, 400);
        check_wait(4, 0, 3, 0);
        check_wait(4, 0, 4, 25);
        check_wait(4, 1, 2, 0);
        check_wait(4, 4, 4, 125);
    }

    #[test]
    fn what_would_wait_beyond_the_budget_is_turned_away_at_once() {
        let mut admission = admission(2, 100);
        for _ in 0..3 {
            assert_eq!(admission.admit(), Ok(())); // two run, one waits 50 ms
        }
        assert_eq!(admission.admit(), Ok(())); // 100 ms: exactly the budget
        assert_eq!(
            admission.admit(),
            Err(Undone::Busy {
                retry_after: Duration::from_millis(150)
            })
        );
        admission.begin();
        assert!(
            admission.admit().is_err(),
            "beginning one makes nobody's wait shorter"
        );
        admission.finish(None);
        assert_eq!(admission.admit(), Ok(()));
    }

    #[test]
    fn with_no_budget_only_idle_threads_take_work() {
        let mut admission = admission(2, 0);
        assert_eq!((admission.admit(), admission.admit()), (Ok(()), Ok(())));
        assert!(admission.admit().is_err());
    }

    #[test]
    fn the_queue_is_bounded_even_when_work_costs_nothing() {
        let mut admission = Admission::new(1, Duration::from_millis(1), Duration::ZERO);
        for _ in 0..WAITING_MAX {
            assert_eq!(admission.admit(), Ok(()));
        }
        assert!(admission.admit().is_err());
    }

    #[test]
    fn slower_work_is_learnt() {
        let mut admission = admission(1, 150);
        for _ in 0..20 {
            assert!(admission.admit().is_ok());
            admission.begin();
            admission.finish(Some(Duration::from_millis(300)));
        }
        assert!(admission.typical > Duration::from_millis(250), "{admission:?}");
        assert!(admission.admit().is_ok());
        assert!(
            admission.admit().is_err(),
            "what now takes 300 ms does not fit a budget of 150"
        );
    }

    /// A piece of work that says when it has begun, and ends when it is told.
    fn held() -> (
        impl FnOnce() -> u32 + Send + 'static,
        oneshot::Receiver<()>,
        mpsc::Sender<u32>,
    ) {
        let (begun, has_begun) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let work = move || {
            let _ = begun.send(());
            ended.recv().unwrap_or(0)
        };
        (work, has_begun, end)
    }

    /// Polls once, which is enough to come into the queue, or to be refused.
    fn is_pending(work: &mut Pin<Box<impl Future>>) -> bool {
        work.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    fn pool(budget_ms: u64) -> Pool {
        Pool::start("test", 1, Duration::from_millis(budget_ms), TYPICAL).expect("threads")
    }

    #[tokio::test]
    async fn a_full_pool_answers_busy_while_its_thread_is_still_held() {
        let pool = pool(150);
        let (work, begun, end) = held();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(work).await }
        });
        begun.await.expect("the first begins");
        let mut second = Box::pin(pool.run(|| 2));
        // The second is in the queue; nothing takes it out before the first ends.
        assert!(is_pending(&mut second));
        assert_eq!(pool.load(), (1, 1));
        assert_eq!(
            pool.run(|| 3).await,
            Err(Undone::Busy {
                retry_after: Duration::from_millis(200)
            })
        );
        end.send(1).expect("the first listens");
        assert_eq!(first.await.expect("no panic"), Ok(1));
        assert_eq!(second.await, Ok(2));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_done() {
        let pool = pool(1000);
        let (work, begun, end) = held();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(work).await }
        });
        begun.await.expect("the first begins");
        let (mark, marks) = mpsc::channel();
        let mut gone = Box::pin(pool.run(move || mark.send(())));
        assert!(is_pending(&mut gone));
        drop(gone);
        end.send(1).expect("the first listens");
        assert_eq!(first.await.expect("no panic"), Ok(1));
        assert_eq!(pool.run(|| 3).await, Ok(3)); // behind it in the queue, so its turn has passed
        assert!(marks.try_recv().is_err());
    }

    #[tokio::test]
    async fn work_that_panics_costs_itself_and_not_the_thread() {
        let pool = pool(1000);
        let lost: Result<(), _> = pool
            .run(|| std::panic::resume_unwind(Box::new("on purpose")))
            .await;
        assert_eq!(lost, Err(Undone::Lost));
        assert_eq!(
            pool.run(|| thread::current().name().map(str::to_owned)).await,
            Ok(Some("test-0".to_owned()))
        );
    }
}
