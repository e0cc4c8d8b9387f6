//! The question before a whole fleet is changed: asked once, of who sits at a terminal, with what is going to change.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bosco_nix::Nix;
use tokio::sync::{OnceCell, oneshot};

use crate::differences::{Compared, Pair, compare};
use crate::event::{Event, Sink};

/// Whether hosts may be changed. They say first what is to become of them, and wait then.
#[derive(Default)]
pub(crate) struct Consent {
    pairs: Mutex<Vec<Pair>>,
    given: OnceCell<bool>,
}

/// What an operator is asked, and where the answer goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    pub(crate) compared: Vec<Compared>,
    answer: Arc<OnceLock<bool>>,
}

impl Question {
    /// Answers it.
    pub(crate) fn answer(&self, yes: bool) {
        let _ = self.answer.set(yes);
    }
}

impl Consent {
    /// A host says what is to become of it.
    pub(crate) fn tell(&self, pair: Pair) {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).push(pair);
    }

    /// Whether it may go on. Who comes first asks for all that have told by then; who comes later is not asked about.
    pub(crate) async fn is_given(&self, nix: &Nix, events: &Sink) -> bool {
        *self.given.get_or_init(|| self.ask(nix, events)).await
    }

    async fn ask(&self, nix: &Nix, events: &Sink) -> bool {
        let pairs = std::mem::take(&mut *self.pairs.lock().unwrap_or_else(PoisonError::into_inner));
        // It is shown to be read, and decides nothing: where it can't be had, the question is asked all the same.
        let compared = compare(nix, &pairs).await.unwrap_or_default();
        let question = Question { compared, answer: Arc::default() };
        let (done, answered) = oneshot::channel();
        let (asked, events) = (question.clone(), events.clone());
        // A thread of its own, which nobody waits for: who is asked may rather press Ctrl-C.
        std::thread::spawn(move || {
            events(Event::Question(asked));
            let _ = done.send(());
        });
        let _ = answered.await;
        question.answer.get().copied().unwrap_or(false)
    }
}

/// What an answer means: nothing but Enter is a yes, and an end of the input is none.
pub(crate) fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes") && answer.ends_with('\n')
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn enter_is_a_yes_and_the_end_of_the_input_is_none() {
        for (answer, yes) in
            [("\n", true), ("y\n", true), ("Yes\n", true), ("", false), ("n\n", false), ("what\n", false)]
        {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn all_hosts_go_by_the_one_answer() {
        // Without a host nothing is compared.
        let Ok(nix) = Nix::find(bosco_nix::Settings::default()).await else { return };
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let events: Sink = Arc::new(move |event| {
            if let Event::Question(question) = event {
                count.fetch_add(1, Ordering::Relaxed);
                question.answer(true);
            }
        });
        let consent = Consent::default();
        let answers = tokio::join!(consent.is_given(&nix, &events), consent.is_given(&nix, &events));
        assert_eq!((answers, asked.load(Ordering::Relaxed)), ((true, true), 1));
    }
}
