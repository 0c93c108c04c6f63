//! Asks the key store how it is: one question at a time however many wait for the answer, and nobody waits long for a store
//! that does not answer at all.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::keystore::StoreError;

/// A store that has not answered for this long is not reachable.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);

/// What the store says of itself: how long it took to answer. `None` if there was nobody to ask it.
pub type StoreStatus = Option<Result<Duration, StoreError>>;

/// One who waits for the store's status. Called exactly once, on any thread.
pub type StatusWaiter = Box<dyn FnOnce(StoreStatus) + Send>;

/// The question under way, if there is one.
#[derive(Default)]
pub struct StatusDesk(Mutex<Option<Question>>);

struct Question {
    asked: Instant,
    waiters: Vec<StatusWaiter>,
}

impl Question {
    fn is_hopeless(&self) -> bool {
        self.asked.elapsed() >= STATUS_PATIENCE
    }
}

impl StatusDesk {
    /// Adds one who waits; `true` if there was no question under way, so that the caller has to ask.
    pub fn wait(&self, waiter: StatusWaiter) -> bool {
        let mut question = self.question();
        match &mut *question {
            None => {
                *question = Some(Question { asked: Instant::now(), waiters: vec![waiter] });
                return true;
            }
            Some(under_way) if !under_way.is_hopeless() => under_way.waiters.push(waiter),
            Some(_) => {
                drop(question);
                waiter(Some(Err(no_answer())));
            }
        }
        false
    }

    /// Ends the question under way and tells all who wait.
    pub fn finish(&self, status: &StoreStatus) {
        let question = self.question().take();
        tell(question.map(|question| question.waiters), status);
    }

    /// Tells all who have waited too long. The question stays: another one would only wait, too.
    pub fn give_up(&self) {
        let late = match &mut *self.question() {
            Some(question) if question.is_hopeless() => std::mem::take(&mut question.waiters),
            _ => return,
        };
        tell(Some(late), &Some(Err(no_answer())));
    }

    /// As if the question under way had been asked long ago.
    #[cfg(test)]
    pub fn age(&self) {
        if let Some(question) = &mut *self.question() {
            question.asked = question.asked.checked_sub(STATUS_PATIENCE).unwrap();
        }
    }

    fn question(&self) -> MutexGuard<'_, Option<Question>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No lock is held while they are told.
fn tell(waiters: Option<Vec<StatusWaiter>>, status: &StoreStatus) {
    waiters.into_iter().flatten().for_each(|waiter| waiter(status.clone()));
}

fn no_answer() -> StoreError {
    StoreError::Unreachable(format!("no answer for {} seconds", STATUS_PATIENCE.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn one_question_answers_all_who_wait() {
        let (desk, (told, answers)) = (StatusDesk::default(), mpsc::channel());
        let waiter = || -> StatusWaiter {
            let told = told.clone();
            Box::new(move |status| told.send(status).unwrap())
        };
        assert!(desk.wait(waiter()));
        assert!(!desk.wait(waiter()));
        desk.give_up();
        assert!(answers.try_recv().is_err(), "there is hope yet");
        let status = Some(Ok(Duration::from_millis(3)));
        desk.finish(&status);
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [status.clone(), status]);
        assert!(desk.wait(waiter()), "the next one asks again");
    }

    #[test]
    fn a_store_that_does_not_answer_is_given_up() {
        let (desk, (told, answers)) = (StatusDesk::default(), mpsc::channel());
        let waiter = || -> StatusWaiter {
            let told = told.clone();
            Box::new(move |status| told.send(status).unwrap())
        };
        assert!(desk.wait(waiter()));
        desk.age();
        desk.give_up();
        let unreachable = Some(Err(StoreError::Unreachable("no answer for 5 seconds".into())));
        assert_eq!(answers.try_recv().unwrap(), unreachable);
        assert!(!desk.wait(waiter()), "it is not asked a second time");
        assert_eq!(answers.try_recv().unwrap(), unreachable);
        desk.finish(&Some(Ok(Duration::ZERO)));
        assert!(desk.wait(waiter()), "it has answered");
    }
}
