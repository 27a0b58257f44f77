//! How the parts of a shard are driven: what one wants is performed on another, until only the shell has work left.

use ledger::Stuck;
use topic::{OpeningError, Position};
use types::Problem;
use types::chain::{LogKind, ShardView};

use super::chain::MessageChain;
use super::event::{Ended, ShardEffect};
use super::replay::{Replay, Shelf, unusable};
use super::runs::{RunId, RunOutput};
use super::serving::{Around, Serving};
use super::sources::{Sources, Step};
use super::words::{over_problem, words};
use super::{Phase, Shard};

impl Shard {
    /// Performs what the parts want of each other until nothing is left but what the shell has to do.
    pub(super) fn settle(&mut self, step: &mut Step<'_>) {
        loop {
            let mut has_worked = false;
            if !self.owner_effects.is_empty() {
                has_worked = true;
                let mut effects = std::mem::take(&mut self.owner_effects);
                for effect in effects.drain(..) {
                    self.perform(step, effect);
                }
                if self.owner_effects.is_empty() {
                    self.owner_effects = effects; // Keeps its memory.
                }
            }
            for (run, output) in self.sources.take_outputs() {
                has_worked = true;
                self.output(step, run, output);
            }
            has_worked |= self.finish_replay(step);
            if let Phase::Serving(serving) = &mut self.phase {
                let mut around = Around {
                    config: &self.setup.config,
                    sources: &mut self.sources,
                    owner: &mut self.owner,
                    owner_effects: &mut self.owner_effects,
                };
                has_worked |= serving.perform(step, &mut around);
            }
            if !has_worked && !self.hand_over(step) {
                return;
            }
        }
    }

    /// Something became of a run.
    fn output(&mut self, step: &mut Step<'_>, run: RunId, output: RunOutput) {
        match &mut self.phase {
            Phase::Replaying(replay, chain) => {
                let mut shelf = Shelf {
                    config: &self.setup.config,
                    chain,
                    sources: &mut self.sources,
                };
                let taken = replay.output(step, &mut shelf, run, output);
                self.check(step, taken);
            }
            Phase::Serving(serving) => {
                let mut around = Around {
                    config: &self.setup.config,
                    sources: &mut self.sources,
                    owner: &mut self.owner,
                    owner_effects: &mut self.owner_effects,
                };
                serving.output(step, &mut around, run, output);
            }
            Phase::Claiming | Phase::Over(_) => {}
        }
    }

    /// Performs one effect of the owner.
    fn perform(&mut self, step: &mut Step<'_>, effect: ledger::Effect) {
        match effect {
            ledger::Effect::Send { bookie, request } => {
                step.effects.push(ShardEffect::Send { bookie, request });
            }
            ledger::Effect::Claim(claim) => step.effects.push(ShardEffect::Claim(claim)),
            ledger::Effect::Command(command) => step.effects.push(ShardEffect::Command(command)),
            ledger::Effect::Opened(view) => self.opened(step, *view),
            ledger::Effect::Confirmed {
                log,
                token,
                ledger,
                entry,
                next_offset,
            } => {
                let at = (Position { ledger, entry }, next_offset);
                self.serving(|serving, around| serving.confirmed(step, around, log, token, at));
            }
            ledger::Effect::Closed { log, ledger, end } => {
                self.serving(|serving, _| serving.closed(log, ledger, end));
            }
            ledger::Effect::Extended {
                log,
                ledger,
                first_offset,
            } => {
                let new = (&ledger, first_offset);
                self.serving(|serving, around| serving.extended(step, around, log, new));
            }
            ledger::Effect::Trimmed {
                log,
                first,
                first_offset,
            } => {
                self.serving(|serving, around| serving.trimmed(around, log, first, first_offset));
                step.effects.push(ShardEffect::Trimmed {
                    log,
                    first,
                    first_offset,
                });
            }
            ledger::Effect::Stuck(stuck) => self.stuck(step, stuck),
            ledger::Effect::Mismatch {
                bookie,
                ledger,
                entry,
            } => step.effects.push(ShardEffect::Mismatch {
                bookie,
                ledger,
                entry,
            }),
            ledger::Effect::Over(over) => {
                let problem = over_problem(over);
                self.end(step, Ended::Owner(over), problem);
            }
        }
    }

    pub(super) fn serving(&mut self, act: impl FnOnce(&mut Serving, &mut Around<'_>)) {
        if let Phase::Serving(serving) = &mut self.phase {
            let mut around = Around {
                config: &self.setup.config,
                sources: &mut self.sources,
                owner: &mut self.owner,
                owner_effects: &mut self.owner_effects,
            };
            act(serving, &mut around);
        }
    }

    fn stuck(&mut self, step: &mut Step<'_>, stuck: Stuck) {
        if let Stuck::TooFewBookies {
            log: LogKind::Message,
        } = stuck
        {
            self.serving(|serving, _| serving.short_of_bookies(step));
        }
        self.stuck = Some(words(&stuck));
        step.effects.push(ShardEffect::Stuck(stuck));
    }

    /// Both logs are recovered and closed: replays them.
    fn opened(&mut self, step: &mut Step<'_>, view: ShardView) {
        self.stuck = None;
        let mut chain = MessageChain::new(&view.record.message);
        let mut shelf = Shelf {
            config: &self.setup.config,
            chain: &mut chain,
            sources: &mut self.sources,
        };
        let mut replay = Replay::start(step, &mut shelf, self.setup.topic.clone(), view);
        let advanced = replay.advance(step, &mut shelf);
        self.phase = Phase::Replaying(Box::new(replay), chain);
        self.check(step, advanced);
    }

    /// Begins to serve when everything was replayed.
    fn finish_replay(&mut self, step: &mut Step<'_>) -> bool {
        let is_done = |phase: &Phase| matches!(phase, Phase::Replaying(r, _) if r.is_done());
        if !is_done(&self.phase) {
            return false;
        }
        let Phase::Replaying(replay, chain) = std::mem::replace(&mut self.phase, Phase::Claiming)
        else {
            return false;
        };
        let first_offset = chain.first_offset();
        let (topic, notes) = match replay.finish(first_offset) {
            Ok(finished) => finished,
            Err(error) => {
                self.check(step, Err::<(), _>(error));
                return true;
            }
        };
        let mut serving = Serving::new(step.now, &self.setup, topic, chain);
        if !self.may_deliver() {
            serving.lease(step, false);
        }
        for request in self.waiting.take() {
            serving.event(step, request.into());
        }
        let epoch = serving.topic().epoch();
        self.phase = Phase::Serving(Box::new(serving));
        self.confirm_reign(step);
        step.effects.push(ShardEffect::Opened { epoch, notes });
        true
    }

    /// Ends the shard when what the logs hold cannot be used.
    pub(super) fn check<T>(&mut self, step: &mut Step<'_>, replayed: Result<T, OpeningError>) {
        if let Err(error) = replayed {
            let problem = unusable(&error);
            self.end(step, Ended::Unusable(problem.clone()), problem);
        }
    }

    fn end(&mut self, step: &mut Step<'_>, ended: Ended, problem: Problem) {
        self.waiting.refuse_all(step, &problem);
        if let Phase::Serving(serving) = &mut self.phase {
            let over = topic::Event::Over {
                problem: problem.clone(),
            };
            serving.event(step, over);
            let mut around = Around {
                config: &self.setup.config,
                sources: &mut self.sources,
                owner: &mut self.owner,
                owner_effects: &mut self.owner_effects,
            };
            while serving.perform(step, &mut around) {}
        }
        self.phase = Phase::Over(Box::new(problem));
        self.sources = Sources::default();
        step.effects.push(ShardEffect::Over(ended));
    }
}
