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
        if let Phase::Serving(serving) = &mut self.phase {
            serving.forget_retention();
        }
        if self.sources.asks(&Purpose::Record) {
            // The answer under way may be older than the change.
            self.is_record_stale = true;
        } else {
            let query = Query::Shard(self.setup.shard);
            self.sources.query(step, query, Purpose::Record);
        }
    }

    /// Whether deliveries may go out: the lease is certain, and meta has confirmed the epoch since it last was not.
    pub(super) const fn may_deliver(&self) -> bool {
        self.is_lease_certain && !self.is_reign_doubtful
    }

    pub(super) fn hold_or_deliver(&mut self, step: &Step<'_>) {
        let may_deliver = self.may_deliver();
        if let Phase::Serving(serving) = &mut self.phase {
            serving.lease(step, may_deliver);
        }
    }

    /// Asks meta whether the epoch still stands, when that is in doubt and worth knowing.
    pub(super) fn confirm_reign(&mut self, step: &mut Step<'_>) {
        self.confirm_at = None;
        let is_wanted = self.is_reign_doubtful && self.is_lease_certain;
        let purpose = Purpose::Reign {
            lapses: self.lapses,
        };
        if is_wanted && matches!(self.phase, Phase::Serving(_)) && !self.sources.asks(&purpose) {
            let query = Query::Shard(self.setup.shard);
            self.sources.query(step, query, purpose);
        }
    }

    /// Meta answered whether the epoch still stands. An answer from before another lapse says nothing.
    fn reign_told(&mut self, step: &mut Step<'_>, lapses: u64, result: Result<Answer, Problem>) {
        if lapses != self.lapses || !self.is_lease_certain {
            return;
        }
        let mut stands = false;
        match result {
            Ok(Answer::Shard(Some(view), _)) => {
                let (owner, epoch) = (view.record.owner, view.record.epoch);
                self.owner(step, ledger::Event::Record(Box::new(view)));
                stands = owner == Some(self.setup.session) && Some(epoch) == self.owner.epoch();
            }
            Ok(Answer::Shard(None, _)) => self.owner(step, ledger::Event::RecordGone),
            _ => {}
        }
        if stands && !self.owner.is_over() {
            self.is_reign_doubtful = false;
            self.hold_or_deliver(step);
        } else {
            self.confirm_at = Some(step.now.after(self.setup.config.retry_after));
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
                match result {
                    Ok(Answer::Shard(Some(view), _)) => {
                        self.owner(step, ledger::Event::Record(Box::new(view)));
                    }
                    Ok(Answer::Shard(None, _)) => self.owner(step, ledger::Event::RecordGone),
                    _ => {} // Its own commands and fences tell an owner too.
                }
                if std::mem::take(&mut self.is_record_stale) {
                    self.record_changed(step);
                }
            }
            (Some(Purpose::Reign { lapses }), result) => self.reign_told(step, lapses, result),
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
            (Some(Purpose::Topic), result) => {
                let topic = match result {
                    Ok(Answer::Topic(topic)) => topic,
                    _ => None,
                };
                self.serving(|serving, around| serving.retention_told(step, around, topic));
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
