//! What a shard asks of meta besides its claim and its commands, and what it does with the answers.

use types::command::{Answer, Query};
use types::{LedgerId, Problem, Reason};

use super::event::QueryId;
use super::replay::Shelf;
use super::serving::Around;
use super::sources::{Purpose, Step};
use super::{Phase, Shard};

impl Shard {
    pub(super) fn record_changed(&mut self, step: &mut Step<'_>) {
        if self.sources.asks(&Purpose::Record) {
            // The answer under way may be older than the change.
            self.is_record_stale = true;
        } else {
            let query = Query::Shard(self.setup.shard);
            self.sources.query(step, query, Purpose::Record);
        }
    }

    pub(super) fn queried(
        &mut self,
        step: &mut Step<'_>,
        query: QueryId,
        result: Result<Answer, Problem>,
    ) {
        match (self.sources.answered(query), result) {
            (Some(Purpose::Record), result) => {
                if let Ok(Answer::Shard(Some(view), _)) = result {
                    self.owner(step, ledger::Event::Record(Box::new(view)));
                }
                if std::mem::take(&mut self.is_record_stale) {
                    self.record_changed(step);
                }
            }
            (Some(Purpose::Subscriptions), Ok(Answer::Subscriptions(page))) => {
                if let Phase::Replaying(replay, _) = &mut self.phase {
                    replay.subscriptions(step, &mut self.sources, page);
                }
            }
            (Some(Purpose::Ledgers(asked)), Ok(Answer::Ledgers(records))) => {
                for record in &records {
                    self.sources.keep(record);
                }
                if records.len() < asked.len() {
                    let text = "a ledger of the chain has no record";
                    self.records_missed(step, &asked, Problem::new(Reason::Internal, text));
                }
                self.records_came(step);
            }
            (Some(Purpose::Ledgers(asked)), Err(problem)) => {
                self.records_missed(step, &asked, problem);
            }
            (Some(Purpose::Subscriptions), Err(problem)) => self.hindered(step, &problem),
            // An answer of another kind than the question's is meta's defect; asking again shows whether it lasts.
            (Some(Purpose::Subscriptions | Purpose::Ledgers(_)), Ok(_)) => {
                let text = "meta gave an answer of another kind";
                self.hindered(step, &Problem::new(Reason::Internal, text));
            }
            (None, _) => {}
        }
    }

    fn hindered(&mut self, step: &Step<'_>, problem: &Problem) {
        if let Phase::Replaying(replay, _) = &mut self.phase {
            replay.hindered(step.now, format!("meta did not answer: {problem}"));
        }
    }

    fn records_came(&mut self, step: &mut Step<'_>) {
        match &mut self.phase {
            Phase::Replaying(replay, chain) => {
                let config = &self.setup.config;
                let sources = &mut self.sources;
                let mut shelf = Shelf {
                    config,
                    chain,
                    sources,
                };
                let advanced = replay.advance(step, &mut shelf);
                self.check(step, advanced);
            }
            Phase::Serving(serving) => {
                let mut around = Around {
                    config: &self.setup.config,
                    sources: &mut self.sources,
                    owner: &mut self.owner,
                    owner_effects: &mut self.owner_effects,
                };
                serving.records(step, &mut around, Ok(()));
            }
            Phase::Claiming | Phase::Over(_) => {}
        }
    }

    fn records_missed(&mut self, step: &mut Step<'_>, asked: &[LedgerId], problem: Problem) {
        self.sources.missed(asked);
        self.hindered(step, &problem);
        if let Phase::Serving(serving) = &mut self.phase {
            let mut around = Around {
                config: &self.setup.config,
                sources: &mut self.sources,
                owner: &mut self.owner,
                owner_effects: &mut self.owner_effects,
            };
            serving.records(step, &mut around, Err((asked, problem)));
        }
    }
}
