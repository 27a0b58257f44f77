//! What went wrong, in one shape: what a caller should do ([`ErrorKind`]), a stable word for programs ([`Reason`]),
//! and a [`Problem`] that carries both across a node's edge with the field, the numbers and the wait.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Try again; repeating does no harm.
    Retry,
    /// Ask again elsewhere: somebody else serves this now.
    Moved,
    /// Stop: a newer owner or producer has taken over.
    Fenced,
    /// Change the request.
    Invalid,
    /// Create it first, or stop.
    NotFound,
    /// Read again, then decide.
    Conflict,
    /// Back off, then try again.
    Busy,
    /// Stored data is damaged; a person must look.
    Corrupt,
    /// The node is stopping; ask another.
    Stopping,
    /// The outcome is not known: it may or may not have happened.
    Unknown,
    /// A defect of Ledgerline.
    Bug,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $kind:ident;)*) => {
        /// The stable word of an error, sent as `google.rpc.ErrorInfo.reason`. Programs branch on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word as it is sent.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What the caller should do.
            pub const fn kind(self) -> ErrorKind {
                match self { $(Self::$variant => ErrorKind::$kind,)* }
            }

            /// Reads the word; `None` for one this version does not know.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    /// A field has a value that cannot be used.
    BadField = "BAD_FIELD", Invalid;
    /// A stream's frame came at the wrong time, such as a first frame that does not open it.
    BadFrame = "BAD_FRAME", Invalid;
    /// The bytes of a batch do not parse as messages.
    MalformedBatch = "MALFORMED_BATCH", Invalid;
    /// A message or a batch is above the limit.
    MessageTooLarge = "MESSAGE_TOO_LARGE", Invalid;
    /// The checksum does not match the bytes.
    PayloadCorrupt = "PAYLOAD_CORRUPT", Retry;
    /// No such tenant.
    TenantNotFound = "TENANT_NOT_FOUND", NotFound;
    /// No such namespace.
    NamespaceNotFound = "NAMESPACE_NOT_FOUND", NotFound;
    /// No such topic.
    TopicNotFound = "TOPIC_NOT_FOUND", NotFound;
    /// No such subscription.
    SubscriptionNotFound = "SUBSCRIPTION_NOT_FOUND", NotFound;
    /// The name is taken.
    AlreadyExists = "ALREADY_EXISTS", Conflict;
    /// Another serving node owns the shard; metadata `owner_endpoint`, `epoch`.
    NotOwner = "NOT_OWNER", Moved;
    /// The shard is being opened or recovered; metadata says what is waited for.
    ShardOpening = "SHARD_OPENING", Retry;
    /// Fewer bookies than the ack quorum can be written.
    InsufficientBookies = "INSUFFICIENT_BOOKIES", Busy;
    /// A byte budget of the node is used up.
    Overloaded = "OVERLOADED", Busy;
    /// A newer producer of the same name has taken over; metadata `current_epoch`.
    ProducerFenced = "PRODUCER_FENCED", Fenced;
    /// Resume was asked of a producer that is not known.
    ProducerUnknown = "PRODUCER_UNKNOWN", Invalid;
    /// A batch does not continue the producer's sequence; metadata `expected`.
    SequenceOutOfOrder = "SEQUENCE_OUT_OF_ORDER", Conflict;
    /// Another consumer or producer holds it exclusively; metadata `holder`.
    ExclusiveHeld = "EXCLUSIVE_HELD", Conflict;
    /// The lease of the message lapsed and another consumer holds it now.
    LeaseLost = "LEASE_LOST", Conflict;
    /// The cursor was moved since the delivery.
    GenerationOld = "GENERATION_OLD", Conflict;
    /// An ack names offsets that do not exist.
    AckOutOfRange = "ACK_OUT_OF_RANGE", Invalid;
    /// The subscription's mode does not allow it.
    WrongMode = "WRONG_MODE", Invalid;
    /// Stored data cannot be read from any copy.
    EntryLost = "ENTRY_LOST", Corrupt;
    /// A compare-and-set found another version; metadata `actual`.
    VersionMismatch = "VERSION_MISMATCH", Conflict;
    /// The epoch of the caller is not the record's.
    EpochMismatch = "EPOCH_MISMATCH", Fenced;
    /// The session is not known or ended; open a new one.
    SessionUnknown = "SESSION_UNKNOWN", Fenced;
    /// The shard's owner is alive.
    OwnerAlive = "OWNER_ALIVE", Conflict;
    /// The other side belongs to another cluster.
    WrongCluster = "WRONG_CLUSTER", Invalid;
    /// The metadata was restored, or moved more than once, since the caller learned of it: start it again.
    WrongGeneration = "WRONG_GENERATION", Fenced;
    /// The other side is not the node that was meant.
    WrongNode = "WRONG_NODE", Invalid;
    /// The other side speaks a version this one does not know.
    WrongVersion = "WRONG_VERSION", Invalid;
    /// A limit on how many there may be is reached; metadata `limit`.
    LimitReached = "LIMIT_REACHED", Busy;
    /// Something that is needed did not answer: meta, a bookie, the owner.
    Unreachable = "UNREACHABLE", Retry;
    /// The disk refuses writes; metadata says which directory.
    DiskReadOnly = "DISK_READ_ONLY", Busy;
    /// The node is stopping.
    Stopping = "STOPPING", Stopping;
    /// It may or may not have happened.
    OutcomeUnknown = "OUTCOME_UNKNOWN", Unknown;
    /// A defect of Ledgerline.
    Internal = "INTERNAL", Bug;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as it crosses a node's edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// The stable word.
    pub reason: Reason,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// The request's field to blame, as its path in the message: `open.topic`.
    pub field: Option<String>,
    /// The resource to blame, by its full name.
    pub resource: Option<String>,
    /// Facts for programs.
    pub metadata: BTreeMap<String, String>,
    /// When to try again, where waiting helps.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with a reason and a message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            field: None,
            resource: None,
            metadata: BTreeMap::new(),
            retry_after: None,
        }
    }

    /// A field whose value cannot be used.
    pub fn bad_field(field: impl Into<String>, message: impl fmt::Display) -> Self {
        let field = field.into();
        Self::new(Reason::BadField, format!("{field}: {message}")).with_field(field)
    }

    /// Names the field to blame.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the resource to blame.
    #[must_use]
    pub fn with_resource(mut self, resource: impl fmt::Display) -> Self {
        self.resource = Some(resource.to_string());
        self
    }

    /// Adds a fact for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What the caller should do.
    pub const fn kind(&self) -> ErrorKind {
        self.reason.kind()
    }
}
