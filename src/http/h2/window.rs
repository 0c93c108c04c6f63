//! How much a peer may send: window given on streams and on the connection, within the connection's and the common
//! memory.
//!
//! What counts is the connection's window, because nothing can come beyond it: at any time `open + held` is at most the
//! initial window, which every HTTP/2 peer has, plus what was taken from the common budget.

use super::{
    H2,
    frame::put_window_update,
    limits::{
        BUDGET_RETRY, CONNECTION_BODIES, INITIAL_WINDOW, LOW_CONNECTION_WINDOW, LOW_STREAM_WINDOW,
        SMALLEST_STEP, WINDOW_STEP,
    },
};
use crate::http::{Budget, Millis};

/// The receiving side of the connection's flow control.
pub(super) struct Credit {
    budget: Budget,
    /// Bytes that the peer may still send on all streams together.
    pub open: usize,
    /// Body bytes in memory.
    pub held: usize,
    /// Bytes taken from the common budget.
    reserved: usize,
    /// Sum of the streams' `granted`.
    pub granted: usize,
    /// A stream was refused window.
    waiting: bool,
}

impl Credit {
    pub fn new(budget: Budget) -> Self {
        Self { budget, open: INITIAL_WINDOW, held: 0, reserved: 0, granted: 0, waiting: false }
    }

    /// Bytes that neither the peer may send nor a body takes.
    fn slack(&self) -> usize {
        (INITIAL_WINDOW + self.reserved).saturating_sub(self.open + self.held)
    }

    /// Returns to the common budget what is not needed.
    fn give_back(&mut self) {
        let surplus = self.reserved.min(self.slack());
        if surplus > 0 {
            self.budget.give_back(surplus);
            self.reserved -= surplus;
        }
    }

    /// Makes room for `wanted` bytes of window, or for as many as the common budget has.
    fn make_room(&mut self, wanted: usize) -> usize {
        let slack = self.slack();
        let mut more = wanted.saturating_sub(slack);
        while more > 0 && !self.budget.take(more) {
            more = if more / 2 >= SMALLEST_STEP { more / 2 } else { 0 };
        }
        self.reserved += more;
        wanted.min(slack + more)
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if self.reserved > 0 {
            self.budget.give_back(self.reserved);
        }
    }
}

impl<T> H2<T> {
    /// Gives the peer as much window as there is a use and room for. Called after everything that changes either.
    pub(super) fn balance(&mut self, now: Millis, out: &mut Vec<u8>) {
        if self.credit.waiting {
            self.credit.waiting = false;
            let mut is_oldest = true;
            for index in 0..self.streams.len() {
                self.widen(index, is_oldest, out);
                is_oldest &= !self.streams[index].is_keeping();
            }
        }
        self.credit.give_back();
        let slack = self.credit.slack();
        let mut more = if slack >= INITIAL_WINDOW / 2 { slack } else { 0 };
        if self.credit.open + more < LOW_CONNECTION_WINDOW {
            let wanted = self.connection_goal().saturating_sub(self.credit.open);
            more = self.credit.make_room(wanted);
            if more < wanted && self.credit.open + more < LOW_CONNECTION_WINDOW {
                self.retry_at = self.retry_at.min(now + BUDGET_RETRY);
            }
        }
        if more > 0 {
            self.credit.open += more;
            put_window_update(out, 0, more);
        }
    }

    /// Gives stream number `index` the window that the rest of its body needs, if it has little left and the
    /// connection's memory allows it. The oldest request always gets it, so that there is progress.
    pub(super) fn widen_stream(&mut self, index: usize, out: &mut Vec<u8>) {
        let is_oldest = !self.streams.iter().take(index).any(|older| older.is_keeping());
        self.widen(index, is_oldest, out);
    }

    /// The same, if it is known whether an older request has a body that is kept.
    fn widen(&mut self, index: usize, is_oldest: bool, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let need = stream.need().min(i32::MAX as usize / 2);
        if need == 0 || stream.credit >= LOW_STREAM_WINDOW {
            return;
        }
        if stream.is_keeping() {
            let fits = self.credit.granted + need <= CONNECTION_BODIES;
            if !fits && !is_oldest {
                self.credit.waiting = true;
                return;
            }
            stream.granted += need;
            self.credit.granted += need;
        }
        stream.credit += need;
        put_window_update(out, stream.id, need);
    }

    /// How big the connection's window should be for the bodies that are being read.
    fn connection_goal(&self) -> usize {
        let mut demands = self.streams.iter().map(|stream| stream.demand()).filter(|&demand| demand > 0);
        let oldest = demands.next().unwrap_or(0);
        let all = demands.fold(oldest, usize::saturating_add);
        let room = CONNECTION_BODIES.saturating_sub(self.credit.held);
        all.min(room).max(oldest).min(WINDOW_STEP)
    }
}

#[cfg(test)]
impl Credit {
    /// Window and bodies stay within what every peer has and what was taken from the common budget.
    pub fn check(&self) {
        assert!(self.open + self.held <= INITIAL_WINDOW + self.reserved);
        assert!(self.reserved <= self.budget.used());
    }
}
