//! Rare things that must happen sometimes: a simulator in which they never do proves nothing.

use std::collections::BTreeMap;
use std::fmt;

macro_rules! marks {
    ($($(#[$doc:meta])* $mark:ident = $text:literal;)*) => {
        /// Something rare that was seen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mark {
            $($(#[$doc])* $mark,)*
        }

        impl Mark {
            /// All marks.
            pub const ALL: &'static [Self] = &[$(Self::$mark,)*];

            /// It in words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$mark => $text,)* }
            }
        }
    };
}

marks! {
    /// A bookie refused an add because of a fence.
    AddFenced = "add refused by a fence";
    /// A bookie refused an add because it saw a successor.
    AddSuccessorSeen = "add refused, successor seen";
    /// A bookie refused an add because the ledger is older than its birth.
    AddOlderThanBirth = "add refused, ledger older than the bookie's birth";
    /// A bookie had no room.
    AddBusy = "add answered busy";
    /// A bookie's disk was nearly full.
    AddReadOnly = "add refused, disk nearly full";
    /// A disk was full, and a fence was durable all the same.
    FenceWhileFull = "fence answered while the disk takes no adds";
    /// Recovery wrote entries back.
    WroteBack = "recovery wrote an entry back";
    /// A recovery ended above the last entry known to be confirmed.
    RecoveredAboveLac = "recovery ended above the highest LAC shown";
    /// A bookie could not say.
    SaidUnknown = "read answered unknown";
    /// A bookie never had it.
    SaidNeverHad = "read answered never had";
    /// A fencing request met a higher fence.
    ReadFenced = "fencing read refused by a higher fence";
    /// A ledger was sealed and a successor appended.
    SealedAndExtended = "ledger sealed and extended";
    /// A shard was claimed from an owner that was still running.
    ClaimedFromLiving = "shard claimed from a running owner";
    /// Two processes served one shard at a time.
    TwoOwners = "two owners of one shard";
    /// An owner's change met another record.
    CommandConflict = "owner's change met a changed record";
    /// A plan of meta lost against another.
    CommitLost = "plan lost against another and was planned again";
    /// A change had no answer.
    OutcomeUnknown = "outcome of a change unknown";
    /// It was found to have landed.
    UnknownSettled = "unknown outcome settled";
    /// A recovery waits for bookies.
    RecoveryStuck = "recovery waits for bookies";
    /// Too few bookies for a new ledger.
    TooFewBookies = "too few bookies for a new ledger";
    /// A torn tail was cut.
    TornTail = "torn tail cut";
    /// A bookie was born again.
    BornAgain = "bookie born again";
    /// A bookie with the same name was refused.
    HolderAlive = "bookie refused while its older process is alive";
    /// A failed sync or write stopped a bookie.
    StorageFailed = "failed write or sync stopped a bookie";
    /// A bookie could not open its directories.
    OpenFailed = "bookie did not open";
    /// A block was found damaged.
    DamagedBlock = "damaged block found";
    /// A process died within a disk job.
    DiedInJob = "process died within a disk job";
    /// Power failed within a disk job.
    PowerInJob = "power failed within a disk job";
    /// Data files were merged.
    Merged = "data files merged";
    /// A repeated batch was known.
    DedupHit = "repeated batch answered with its first offset";
    /// A repeated batch was known, and no more than that.
    DedupSomewhere = "repeated batch known, its place not";
    /// A batch was refused.
    BatchRefused = "batch refused";
    /// A producer was shut out by a newer one of its name.
    ProducerFenced = "producer shut out by its successor";
    /// A message came again.
    Redelivered = "message delivered again";
    /// A batch was delivered as its producer compressed it.
    DeliveredCompressed = "compressed batch delivered as it came";
    /// A lease was lost.
    LeaseLost = "ack refused, lease lost";
    /// A consumer was refused.
    ExclusiveHeld = "second exclusive consumer refused";
    /// A consumer came back.
    ConsumerBack = "consumer connected again";
    /// An owner was not certain of its lease.
    LeaseUncertain = "owner uncertain of its lease";
    /// A session expired.
    SessionExpired = "session expired";
    /// A session came back.
    SessionRevived = "session revived";
    /// A shard was given up as planned.
    Released = "shard given up as planned";
    /// The oldest ledgers of a log were dropped.
    Trimmed = "oldest ledgers dropped";
    /// A bookie heard of it.
    Reclaimed = "bookie heard what was dropped";
    /// A subscription was deleted.
    Unsubscribed = "subscription deleted";
    /// Somebody came too late.
    GhostRefused = "consumer of a deleted subscription refused";
    /// A topic was deleted.
    TopicDeleted = "topic deleted";
    /// It was in use.
    DeletedUnderLoad = "topic deleted under load";
    /// A node or a client tried again.
    DeletionRepeated = "deletion of a topic repeated, since its answer was lost";
    /// The topic stayed.
    DeletionFailed = "deletion of a topic failed";
    /// The topic stayed, since it was not closed.
    NotClosed = "topic not deleted, since its logs were not closed in time";
    /// A node died with the logs closed and the topic there.
    OwnerDiedDeleting = "owner died between closing the logs and the deletion";
    /// A topic took the name of another.
    TopicRemade = "topic made again under its name";
    /// A bookie heard late of a topic's deletion.
    SweptWhileAway = "topic swept while a bookie was away";
    /// A word was overtaken by far.
    Late = "message that came seconds late";
    /// A bookie told meta of whole copies.
    CopyTold = "copies found whole and told to meta";
    /// A copy was made anew.
    CopyMade = "copy made whole from other bookies";
    /// A damaged copy was made good.
    CopyMended = "damaged copy made good from other bookies";
    /// A ledger could not be copied at the time.
    RepairSetBack = "copy that could not be made at the time";
    /// A process died while it made a copy.
    RepairCut = "repair cut short by a crash";
    /// A bookie took the place of another.
    PlaceTaken = "place taken over by another bookie";
    /// A bookie came back in time.
    MoveCalledOff = "move of a copy called off";
    /// A copy went.
    CopyGivenUp = "copy given up that lives elsewhere";
    /// One bookie after another.
    LostInTurn = "disk lost after that of another bookie was made good";
    /// A bookie went for ever.
    BookieGone = "bookie lost for good";
    /// A bookie was drained.
    Drained = "bookie drained";
    /// A copy that meta counts as whole was read.
    Proven = "copy read that meta counts as whole";
    /// A server sent a client to another.
    Redirected = "client sent to the owner";
    /// A waiting request was refused.
    OpeningRefused = "request refused while the shard opens";
    /// An ack was confirmed.
    AckConfirmed = "ack confirmed";
    /// A nack was taken.
    Nacked = "message given back";
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// How often each was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    counts: BTreeMap<Mark, u64>,
}

impl Marks {
    /// Counts one.
    pub fn hit(&mut self, mark: Mark) {
        *self.counts.entry(mark).or_default() += 1;
    }

    /// How often it was seen.
    pub fn count(&self, mark: Mark) -> u64 {
        self.counts.get(&mark).copied().unwrap_or(0)
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.counts {
            *self.counts.entry(*mark).or_default() += count;
        }
    }

    /// Those never seen.
    pub fn missing(&self) -> Vec<Mark> {
        let all = Mark::ALL.iter().copied();
        all.filter(|mark| self.count(*mark) == 0).collect()
    }
}
