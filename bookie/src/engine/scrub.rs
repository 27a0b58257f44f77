//! Reading data files through, so that damage is found while other copies are whole.
//!
//! A block is read from the disk, never from the cache, and verified entry by entry. A file with a damaged block is from
//! then on believed in nothing that is not read: a run of it no longer tells that a ledger has no gap.

use crate::job::{Lane, Work, Worker};
use crate::store::lookup::{BadBlock, ScrubDone, ScrubJob};

use super::event::{Scrub, ScrubResult};
use super::{Alarm, Answer, Effect, Engine, Token, lane_index, reply, run};

impl Engine {
    pub(super) fn scrub(&mut self, token: Token, ask: Scrub, effects: &mut Vec<Effect>) {
        if self.is_lane_full(Lane::CatchUp) {
            effects.push(reply(token, Answer::Scrub(ScrubResult::Busy)));
            return;
        }
        let Some((number, file)) = self.tables.files.range(ask.file..).next() else {
            let (bytes, next) = (0, None);
            let result = ScrubResult::Passed { bytes, next };
            effects.push(reply(token, Answer::Scrub(result)));
            return;
        };
        let job = ScrubJob {
            token: token.0,
            file: std::sync::Arc::clone(file),
            // What was merged away meanwhile was read for that.
            block: if *number == ask.file { ask.block } else { 0 },
            cache: self.cache.clone(),
        };
        self.lane_jobs[lane_index(Lane::CatchUp)] += 1;
        effects.push(run(Worker::Read(Lane::CatchUp), Work::Scrub(job)));
    }

    pub(super) fn scrubbed(&mut self, done: &ScrubDone, effects: &mut Vec<Effect>) {
        self.lane_jobs[lane_index(Lane::CatchUp)] -= 1;
        let next = match done.next_block {
            Some(block) => Some(Scrub {
                file: done.file,
                block,
            }),
            None => done
                .file
                .checked_add(1)
                .map(|file| Scrub { file, block: 0 }),
        };
        let bytes = done.bytes;
        let result = ScrubResult::Passed { bytes, next };
        effects.push(reply(Token(done.token), Answer::Scrub(result)));
    }

    /// Raises the alarm for blocks that are not as written, unless nobody needs what they hold any more.
    pub(super) fn note_bad(&mut self, bad: &[BadBlock], effects: &mut Vec<Effect>) {
        for bad in bad {
            let mut ledgers = Vec::new();
            if let Some(file) = self.tables.files.get(&bad.file)
                && let Some(block) = file.block_at(bad.offset)
            {
                ledgers.extend(file.ledgers_of(block));
                ledgers.retain(|ledger| self.gone(*ledger).is_none());
                if ledgers.is_empty() {
                    continue;
                }
            }
            if !self.upkeep.resting.contains(&bad.file) {
                self.upkeep.resting.push(bad.file);
            }
            effects.push(Effect::Alarm(Alarm::DamagedBlock {
                file: bad.file,
                offset: bad.offset,
                ledgers,
            }));
        }
    }
}
