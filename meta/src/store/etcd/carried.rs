//! An etcd's store as an image while it is used, and an image as a store in an empty prefix.
//!
//! An import is many transactions. Its key `import` is there from the first to the last of them, and each compares it:
//! nobody serves from a prefix that has it, two imports at once do not mix, and one that was cut short is begun anew.
//! The last transaction takes it away and makes the cluster's id, without which there is no store.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use catalog::{Key, Passage, Versioned, carry, encode_record};
use host::{DiskWorker, Host};
use proto::etcd::{Compare, RangeRequest, RequestOp, TxnRequest};

use super::client::{Client, Failure};
use super::home::Home;
use super::layout::{
    Layout, above, encode_changes, found, modified_at, one, put, range, remove, remove_all,
};
use super::open::{OpenFailure, check, check_version, damaged, pause};
use super::{EtcdConfig, EtcdError, PAGE, READS_MAX};
use crate::image::{Fresh, Header, ImageError, ImageFile, Kind, Progress, on_disk};

/// Most records of one transaction, below etcd's limit of 128 operations.
const BATCH: usize = 100;
/// Bytes of records above which a transaction takes no more, well below etcd's limit of 1.5 MiB.
const BATCH_BYTES: usize = 512 << 10;

/// Why one step has no result.
pub(super) enum Halt {
    /// The same again may do better.
    Passing(String),
    Final(ImageError),
}

impl From<OpenFailure> for Halt {
    fn from(failure: OpenFailure) -> Self {
        match failure {
            OpenFailure::Passing(reason) => Self::Passing(reason),
            OpenFailure::Final(error) => Self::Final(error.into()),
        }
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        OpenFailure::from(failure).into()
    }
}

impl<E: Into<ImageError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

/// A prefix of an etcd.
#[derive(Debug, Clone)]
pub(super) struct Prefix {
    host: Host,
    config: EtcdConfig,
    client: Arc<Client>,
    layout: Layout,
    disk: DiskWorker,
}

impl Prefix {
    pub(super) fn new(host: &Host, config: &EtcdConfig) -> Result<Self, ImageError> {
        let layout = check(config)?;
        Ok(Self {
            host: host.clone(),
            config: config.clone(),
            client: Arc::new(Client::new(host, &config.endpoints, config.timeout)),
            layout,
            disk: host.disk_worker("meta-image"),
        })
    }

    /// Repeats a step that does no harm twice, for as long as etcd may take to come up.
    async fn patiently<T, F, C>(&self, step: F) -> Result<T, ImageError>
    where
        F: Fn() -> C,
        C: Future<Output = Result<T, Halt>>,
    {
        let deadline = self.host.clock.now().after(self.config.patience);
        loop {
            match step().await {
                Ok(done) => return Ok(done),
                Err(Halt::Final(error)) => return Err(error),
                Err(Halt::Passing(reason)) => {
                    pause(&self.host, deadline, &self.config, &reason).await?;
                }
            }
        }
    }

    /// A page of records from a key on, at a revision of etcd (0: at the present one).
    async fn page(&self, from: Bytes, at: i64) -> Result<Page, Halt> {
        let (_, range_end) = self.layout.all_records();
        let request = RangeRequest {
            key: from,
            range_end,
            limit: i64::try_from(PAGE).unwrap_or(i64::MAX),
            revision: at,
            ..RangeRequest::default()
        };
        let answer = self.client.range(request).await?;
        let mut records = Vec::with_capacity(answer.kvs.len());
        for pair in &answer.kvs {
            let read = self.layout.versioned(pair);
            records.push(read.map_err(|what| Halt::from(damaged(&self.layout, what)))?);
        }
        let last = answer.kvs.last().filter(|_| answer.more);
        Ok(Page {
            records,
            left: u64::try_from(answer.count).unwrap_or_default(),
            next: last.map(|last| above(&last.key)),
        })
    }

    fn occupied(&self) -> ImageError {
        let prefix = self.layout.prefix();
        ImageError::Occupied {
            what: format!("etcd under {prefix}"),
        }
    }
}

/// Some records, how many there are from the first of them on, and where the next page begins.
struct Page {
    records: Vec<(Key, Versioned)>,
    left: u64,
    next: Option<Bytes>,
}

/// Writes the records of an etcd, all at one revision, into a file. The store may be in use.
pub(crate) async fn save(
    host: &Host,
    config: &EtcdConfig,
    file: ImageFile,
    fresh: Fresh,
    progress: Progress,
) -> Result<Header, ImageError> {
    let etcd = Prefix::new(host, config)?;
    let mut tries = 1;
    loop {
        match save_once(&etcd, &file, fresh, &progress).await {
            Ok(header) => return Ok(header),
            Err(Halt::Final(error)) => return Err(error),
            // Compacted while it was read, or a member failed: all of it again, at a later revision.
            Err(Halt::Passing(reason)) if tries == READS_MAX => {
                let endpoints = format!("{:?}", config.endpoints);
                return Err(EtcdError::Unreachable { endpoints, reason }.into());
            }
            Err(Halt::Passing(_)) => tries += 1,
        }
    }
}

async fn save_once(
    etcd: &Prefix,
    file: &ImageFile,
    fresh: Fresh,
    progress: &Progress,
) -> Result<Header, Halt> {
    let Some((home, at, last)) = etcd.patiently(|| begin(etcd)).await? else {
        let what = format!("etcd under {}", etcd.layout.prefix());
        return Err(ImageError::NoStore { what }.into());
    };
    let etcd = Prefix {
        layout: etcd.layout.clone().above(home.base),
        ..etcd.clone()
    };
    let mut page = etcd.page(etcd.layout.all_records().0, at).await?;
    let header = Header {
        kind: Kind::Backup,
        id: fresh.id,
        cluster: home.cluster,
        generation: home.generation,
        revision: etcd.layout.revision(last),
        records: page.left,
        taken: fresh.taken,
    };
    let begun = file.clone();
    let mut output = on_disk(&etcd.disk, move || begun.begin(&header)).await?;
    let mut written = 0;
    loop {
        written += u64::try_from(page.records.len()).unwrap_or_default();
        let (file, records) = (file.clone(), page.records);
        output = on_disk(&etcd.disk, move || {
            for (key, found) in &records {
                file.io(output.record(key, found))?;
            }
            Ok(output)
        })
        .await?;
        progress.told("written", written, header.records);
        match page.next {
            Some(next) => page = etcd.page(next, at).await?,
            None => break,
        }
    }
    let file = file.clone();
    on_disk(&etcd.disk, move || {
        file.end(output)?;
        file.name()
    })
    .await?;
    Ok(header)
}

/// What there is, the revision of etcd to read at, and that of the last commit before it; none when there is no store.
async fn begin(etcd: &Prefix) -> Result<Option<(Home, i64, i64)>, Halt> {
    check_version(&etcd.client).await?;
    let layout = &etcd.layout;
    let both = TxnRequest {
        success: vec![range(one(layout.cluster())), range(one(layout.changes()))],
        ..TxnRequest::default()
    };
    let answer = etcd.client.read(both).await?;
    let at = answer.header.map_or(0, |header| header.revision);
    let mut answers = answer.responses.into_iter();
    let mut first = || found(answers.next()).0.into_iter().next();
    let (id, changes) = (first(), first());
    let Some(id) = id else {
        return Ok(None);
    };
    let home = Home::decode(&id.value);
    let home =
        home.ok_or_else(|| Halt::from(damaged(layout, "the id of the cluster".to_owned())))?;
    let last = changes.map_or(0, |changes| changes.mod_revision);
    Ok(Some((home, at, last)))
}

/// Makes a store of a file, in a prefix without keys. The file is read to its end before anything is changed.
pub(crate) async fn import(
    host: &Host,
    config: &EtcdConfig,
    file: ImageFile,
    passage: Passage,
    progress: Progress,
) -> Result<Header, ImageError> {
    let etcd = Prefix::new(host, config)?;
    let (checked, told) = (file.clone(), progress.clone());
    let header = on_disk(&etcd.disk, move || checked.check(&told)).await?;
    if passage == Passage::Move && header.kind != Kind::Export {
        return Err(ImageError::NotAnExport { path: file.path });
    }
    let mark = host.rng.u128();
    let begun = etcd.patiently(|| take_place(&etcd, mark)).await?;
    let import = Import {
        prefix: etcd,
        begun,
        passage,
    };
    import.fill(&file, &header, &progress).await?;
    import.check_whole(&header, &progress).await?;
    import.finish(&header, mark).await?;
    Ok(header)
}

/// Makes the key `import` where there are no keys, or takes it over from an import that did not end; says at which of
/// etcd's revisions.
pub(super) async fn take_place(etcd: &Prefix, mark: u128) -> Result<i64, Halt> {
    check_version(&etcd.client).await?;
    let layout = &etcd.layout;
    let older = etcd.client.range(one(layout.import())).await?;
    let older = older.kvs.first().map_or(0, |key| key.mod_revision);
    if older == 0 {
        let (key, range_end) = layout.all();
        let any = RangeRequest {
            key,
            range_end,
            limit: 1,
            ..RangeRequest::default()
        };
        if !etcd.client.range(any).await?.kvs.is_empty() {
            return Err(etcd.occupied().into());
        }
    }
    let take = TxnRequest {
        compare: vec![
            modified_at(layout.import(), older),
            modified_at(layout.cluster(), 0),
            modified_at(layout.leader(), 0),
        ],
        success: vec![
            remove_all(layout.all_records()),
            put(layout.import(), mark.to_be_bytes().to_vec().into(), 0),
        ],
        failure: Vec::new(),
    };
    let answer = etcd.client.write(take).await?;
    if !answer.succeeded {
        // Somebody else was there in between: look again at who.
        return Err(Halt::Passing("another process uses the prefix".to_owned()));
    }
    Ok(answer.header.map_or(0, |header| header.revision))
}

/// An import that has its place.
pub(super) struct Import {
    pub(super) prefix: Prefix,
    /// When its key was written, in etcd's revisions: another import's has another.
    pub(super) begun: i64,
    pub(super) passage: Passage,
}

impl Import {
    fn still_ours(&self) -> Compare {
        modified_at(self.prefix.layout.import(), self.begun)
    }

    fn overtaken(&self) -> ImageError {
        let prefix = self.prefix.layout.prefix().to_owned();
        ImageError::Overtaken { prefix }
    }

    /// Writes all records. A batch whose answer is lost is written again: the same bytes, as long as the place is ours.
    pub(super) async fn fill(
        &self,
        file: &ImageFile,
        header: &Header,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        let disk = &self.prefix.disk;
        let opened = file.clone();
        let mut input = on_disk(disk, move || opened.open()).await?;
        let mut written = 0;
        loop {
            let (file, layout, passage) = (file.clone(), self.prefix.layout.clone(), self.passage);
            let read = on_disk(disk, move || {
                let mut puts = Vec::with_capacity(BATCH);
                let mut bytes = 0;
                while puts.len() < BATCH && bytes < BATCH_BYTES {
                    let Some((key, found)) = file.flaw(input.next())? else {
                        break;
                    };
                    let record = encode_record(&key, &carry(&key, found, passage));
                    bytes += record.len();
                    puts.push(put(layout.record(&key), record.into(), 0));
                }
                Ok((input, puts))
            });
            let puts;
            (input, puts) = read.await?;
            if puts.is_empty() {
                return Ok(());
            }
            written += u64::try_from(puts.len()).unwrap_or_default();
            self.write(puts).await?;
            progress.told("imported", written, header.records);
        }
    }

    async fn write(&self, success: Vec<RequestOp>) -> Result<(), ImageError> {
        let request = TxnRequest {
            compare: vec![self.still_ours()],
            success,
            failure: Vec::new(),
        };
        let step = || async {
            let answer = self.prefix.client.write(request.clone()).await?;
            if answer.succeeded {
                Ok(())
            } else {
                Err(self.overtaken().into())
            }
        };
        self.prefix.patiently(step).await
    }

    /// Reads everything back: as many records as the file has, each of which can be read.
    async fn check_whole(&self, header: &Header, progress: &Progress) -> Result<(), ImageError> {
        let (mut from, mut read) = (self.prefix.layout.all_records().0, 0);
        loop {
            let step = || self.prefix.page(from.clone(), 0);
            let page = self.prefix.patiently(step).await?;
            read += u64::try_from(page.records.len()).unwrap_or_default();
            progress.told("read back", read, header.records);
            match page.next {
                Some(next) => from = next,
                None if read == header.records => return Ok(()),
                None => return Err(self.overtaken()),
            }
        }
    }

    /// Makes the store: from here on it is one.
    pub(super) async fn finish(&self, header: &Header, mark: u128) -> Result<(), ImageError> {
        let layout = &self.prefix.layout;
        let home = Home {
            cluster: header.cluster,
            generation: header.generation.next(mark, self.passage == Passage::Move),
            base: self.passage.base(header.revision),
        };
        let finish = TxnRequest {
            compare: vec![self.still_ours(), modified_at(layout.cluster(), 0)],
            success: vec![
                put(layout.cluster(), home.encode(), 0),
                put(layout.changes(), encode_changes(&[]), 0),
                remove(layout.import()),
            ],
            failure: vec![range(one(layout.cluster()))],
        };
        let step = || async {
            let answer = self.prefix.client.write(finish.clone()).await?;
            let there = found(answer.responses.into_iter().next()).0;
            // An earlier try whose answer was lost may have done it.
            let is_ours = there.first().is_some_and(|id| id.value == home.encode());
            if answer.succeeded || is_ours {
                Ok(())
            } else {
                Err(self.overtaken().into())
            }
        };
        self.prefix.patiently(step).await
    }
}
