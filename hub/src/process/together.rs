//! What many ask for at once and is done as one: a transaction, a flush.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Those who ask. There is no task that serves them: whoever has the turn does what all of them wait for, its own among it.
pub(crate) struct Together<T, A> {
    waiting: Mutex<VecDeque<(T, oneshot::Sender<A>)>>,
    turn: tokio::sync::Mutex<()>,
    /// That are done at once.
    most: usize,
}

impl<T, A> Together<T, A> {
    pub(crate) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), turn: tokio::sync::Mutex::default(), most }
    }

    /// Has it done, and answers with what came of it. `work` answers in the order in which it was asked. `None`: whoever had
    /// it in hand was dropped meanwhile.
    pub(crate) async fn ask<F: Future<Output = Vec<A>>>(&self, one: T, work: impl Fn(Vec<T>) -> F) -> Option<A> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push_back((one, answer));
        let _turn = tokio::select! {
            biased;
            answer = &mut answered => return answer.ok(),
            turn = self.turn.lock() => turn,
        };
        loop {
            match answered.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => self.work_off(&work).await,
                answer => return answer.ok(),
            }
        }
    }

    async fn work_off<F: Future<Output = Vec<A>>>(&self, work: &impl Fn(Vec<T>) -> F) {
        let (asked, answers): (Vec<_>, Vec<_>) = {
            let mut waiting = self.waiting();
            let count = waiting.len().min(self.most);
            waiting.drain(..count).unzip()
        };
        for (answer, done) in answers.into_iter().zip(work(asked).await) {
            // Who does not wait for it any more has no use for it.
            let _ = answer.send(done);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(T, oneshot::Sender<A>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_meanwhile_is_done_at_once_and_each_has_its_own_answer() {
        let (together, gate) = (Arc::new(Together::new(8)), Arc::new(Semaphore::new(0)));
        let asked: Vec<_> = (0..20)
            .map(|number: usize| {
                let (together, gate) = (together.clone(), gate.clone());
                let work = move |all: Vec<usize>| {
                    let gate = gate.clone();
                    async move {
                        gate.acquire().await.expect("it is open").forget();
                        all.iter().map(|one| (*one, all.len())).collect()
                    }
                };
                tokio::spawn(async move { together.ask(number, work).await })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.add_permits(4);

        let mut sizes = Vec::new();
        for (number, task) in asked.into_iter().enumerate() {
            let (answered, size) = task.await.expect("it ends").expect("it is done");
            assert_eq!(answered, number);
            sizes.push(size);
        }

        assert_eq!(sizes.iter().max(), Some(&8), "{sizes:?}");
        assert!(gate.available_permits() <= 1, "four rounds at most");
    }

    #[tokio::test]
    async fn whoever_is_dropped_with_the_turn_leaves_the_others_to_the_next() {
        let together = Arc::new(Together::<u32, u32>::new(1));
        let stuck = {
            let together = together.clone();
            tokio::spawn(async move { together.ask(1, |_| std::future::pending()).await })
        };
        while together.turn.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        let next = {
            let together = together.clone();
            tokio::spawn(async move { together.ask(2, std::future::ready).await })
        };
        tokio::task::yield_now().await;
        stuck.abort();

        assert_eq!(next.await.expect("it ends"), Some(2));
    }
}
