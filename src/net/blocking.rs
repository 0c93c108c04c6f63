//! A fixed number of threads for work that may wait for a disk or a network, behind a bounded queue.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use crate::{api::Job, metrics::NetMetrics};

/// The pool. Its threads end with the process; a stop does not wait for a disk that hangs.
pub(super) struct Pool {
    queue: Arc<Queue>,
}

struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    more: Condvar,
    limit: usize,
    metrics: Arc<NetMetrics>,
}

impl Pool {
    /// Starts `threads` threads behind a queue of `limit` jobs.
    pub(super) fn start(threads: usize, limit: usize, metrics: Arc<NetMetrics>) -> io::Result<Self> {
        let queue = Arc::new(Queue { jobs: Mutex::default(), more: Condvar::new(), limit, metrics });
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            super::spawn("kes-blocking", move || queue.work())?;
        }
        Ok(Self { queue })
    }

    /// Hands over `job`, or gives it back if the queue is full.
    pub(super) fn submit(&self, job: Job) -> Result<(), Job> {
        let mut jobs = self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= self.queue.limit {
            return Err(job);
        }
        jobs.push_back(job);
        self.queue.metrics.queued.set(jobs.len() as i64);
        drop(jobs);
        self.queue.more.notify_one();
        Ok(())
    }
}

impl Queue {
    fn work(&self) {
        loop {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let mut jobs =
                self.more.wait_while(jobs, |jobs| jobs.is_empty()).unwrap_or_else(PoisonError::into_inner);
            let job = jobs.pop_front();
            self.metrics.queued.set(jobs.len() as i64);
            drop(jobs);
            if let Some(job) = job {
                // A job answers for its own panics; whatever is left must not cost the pool a thread.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_full_queue_gives_the_job_back() {
        let pool = Pool::start(1, 2, Arc::default()).unwrap();
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let blocked = move || {
            started.send(()).unwrap();
            released.recv().unwrap();
        };
        assert!(pool.submit(Box::new(blocked)).is_ok());
        has_started.recv().unwrap();
        assert!(pool.submit(Box::new(|| ())).is_ok());
        let (done, is_done) = mpsc::channel();
        assert!(pool.submit(Box::new(move || done.send(()).unwrap())).is_ok());
        assert!(pool.submit(Box::new(|| ())).is_err());
        release.send(()).unwrap();
        is_done.recv().unwrap();
    }

    #[test]
    fn a_panic_does_not_cost_a_thread() {
        let pool = Pool::start(1, 8, Arc::default()).unwrap();
        assert!(pool.submit(Box::new(|| std::panic::resume_unwind(Box::new("on purpose")))).is_ok());
        let (done, is_done) = mpsc::channel();
        assert!(pool.submit(Box::new(move || done.send(()).unwrap())).is_ok());
        is_done.recv().unwrap();
    }
}
