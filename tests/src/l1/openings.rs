//! How clients' streams open at a serving node: the topic is looked up, then its owner, and what waits meanwhile is taken
//! in or refused.

use types::cluster::{SessionRecord, SessionState};
use types::command::Query;
use types::topic::TopicRecord;
use types::{Problem, Reason, SessionId, ShardId, WallTime};

use super::event::{Frame, MetaAsk, Opening, Said};
use super::servers::Call;
use super::shard_core::{Request, ShardEvent, Told};
use super::world::World;

impl World {
    /// A client's frame arrives.
    pub(super) fn frame(&mut self, stream: u64, frame: Frame) {
        let Some(state) = self.streams.get(&stream) else {
            return;
        };
        let (at, life) = (state.server, state.server_life);
        if !self.servers[at].is_up || self.servers[at].life != life {
            return;
        }
        match frame {
            Frame::Request(request) => {
                if let Some(key) = state.shard.filter(|key| self.serves(at, *key)) {
                    self.shard_event(at, key, ShardEvent::Request(request));
                }
            }
            Frame::Open(opening) => self.opens(at, stream, opening),
        }
    }

    /// A stream is to be opened: on the topic's shard when it is served here, else once it is known where it is.
    fn opens(&mut self, at: usize, stream: u64, opening: Opening) {
        let server = &mut self.servers[at];
        let shard = server.shard_known();
        let served = shard.and_then(|shard| server.serving_shard(shard));
        if let Some(key) = served.map(|serving| serving.key) {
            return self.opened(at, key, stream, opening);
        }
        server.waiting.push((stream, opening));
        if server.session.is_none() {
            let problem = Problem::new(Reason::Unreachable, "the node is starting");
            self.refuse_waiting(at, &problem);
        } else if !server.is_looking {
            server.is_looking = true;
            self.looks_up(at);
        }
    }

    /// Finds out which shard the topic has, and who owns it.
    fn looks_up(&mut self, at: usize) {
        match self.servers[at].shard_known() {
            Some(shard) => {
                let ask = MetaAsk::Query(Query::Shard(shard));
                self.call(at, Call::Owner(shard), ask);
            }
            None => {
                let ask = MetaAsk::Query(Query::Topic(self.topic.clone()));
                self.call(at, Call::Topic, ask);
            }
        }
    }

    /// Meta said what it knows of the name.
    pub(super) fn topic_found(&mut self, at: usize, record: Option<TopicRecord>) {
        if record.is_none() {
            self.servers[at].is_looking = false;
            let problem = Problem::new(Reason::TopicNotFound, "there is no such topic");
            return self.refuse_waiting(at, &problem);
        }
        self.servers[at].topic = record;
        self.looks_up(at);
    }

    /// Meta said who owns a shard, and how the owner's session stands.
    pub(super) fn owner_found(
        &mut self,
        at: usize,
        shard: ShardId,
        id: Option<SessionId>,
        owner: Option<SessionRecord>,
    ) {
        self.servers[at].is_looking = false;
        let own = self.servers[at].session;
        let owner = owner.filter(|it| it.state == SessionState::Live && Some(it.id) != own);
        if let Some(owner) = owner {
            let problem = Problem::new(Reason::NotOwner, "another node owns the shard");
            let problem = problem.with("owner_endpoint", owner.endpoint);
            self.refuse_waiting(at, &problem);
        } else if self.is_deleting(at, shard) {
            let problem = Problem::new(Reason::ShardOpening, "the topic is being deleted");
            self.refuse_waiting(at, &problem);
        } else {
            self.shard_open(at, shard, &id);
        }
    }

    pub(super) fn refuse_waiting(&mut self, at: usize, problem: &Problem) {
        for (stream, _) in std::mem::take(&mut self.servers[at].waiting) {
            let told = Told::Ended(problem.clone());
            self.server_says(stream, Said::Told { told, epoch: None });
        }
    }

    /// A stream opens on a shard that is served here.
    pub(super) fn opened(&mut self, at: usize, key: u64, stream: u64, opening: Opening) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.shard = Some(key);
        }
        let request = match opening {
            Opening::Producer(open) => Request::OpenProducer(open),
            Opening::Consumer(open) => Request::OpenConsumer(open),
            Opening::Once {
                stream,
                count,
                body,
            } => Request::PublishOnce {
                stream,
                count,
                body: body.into(),
            },
            Opening::Unsubscribe(plan, id) => {
                return self.server_unsubscribes(at, stream, (plan, id));
            }
            Opening::DeleteTopic => return self.server_deletes(at, key, stream),
            Opening::Subscribe(plan) => {
                let create = self.subs[plan].command(WallTime::from_nanos(self.now));
                let ask = MetaAsk::Command(Box::new(create));
                return self.call(at, Call::CreateSub { stream, plan }, ask);
            }
        };
        self.shard_event(at, key, ShardEvent::Request(request));
    }
}
