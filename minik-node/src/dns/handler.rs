//! One query in, one response out.

use std::sync::Arc;

use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::domain::usage::IN_ADDR_ARPA;
use hickory_proto::rr::{DNSClass, LowerName, Name, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use rand::seq::SliceRandom;
use tokio::sync::watch;

use super::reply::Reply;
use super::upstream::Upstream;
use crate::plan::dns_zone::{Answer, Zone, lookup};

/// Smallest and largest UDP response: what RFC 1035 grants without EDNS, and what no usual path fragments.
const PAYLOAD: (u16, u16) = (512, 1232);

/// Answers from the zone, and from upstream servers about everything else.
#[derive(Debug)]
pub(super) struct Handler {
    origin: LowerName,
    zone: watch::Receiver<Option<Arc<Zone>>>,
    upstream: Upstream,
}

impl Handler {
    pub fn new(origin: Name, zone: watch::Receiver<Option<Arc<Zone>>>, upstream: Upstream) -> Self {
        Self {
            origin: LowerName::new(&origin),
            zone,
            upstream,
        }
    }

    async fn reply(&self, request: &Request) -> Reply {
        let [query] = request.queries.queries() else {
            return Reply::error(ResponseCode::FormErr);
        };
        if request.metadata.message_type != MessageType::Query || request.metadata.op_code != OpCode::Query {
            return Reply::error(ResponseCode::NotImp);
        }
        if query.query_class() != DNSClass::IN {
            return Reply::error(ResponseCode::Refused);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Reply::error(ResponseCode::BADVERS);
        }
        let name = query.original().name();
        let zone = self.zone.borrow().clone();
        let Some(zone) = zone else {
            // Saying that a name does not exist would be a guess, and resolvers remember it.
            return if self.is_ours(query.name()) {
                Reply::error(ResponseCode::ServFail)
            } else {
                self.upstream.ask(name, query.query_type(), None).await
            };
        };
        let mut reply = match lookup(&zone, name, query.query_type()) {
            Ok(Some(answer)) => self.complete(answer, query.query_type(), &zone).await,
            Ok(None) => self.upstream.ask(name, query.query_type(), Some(&zone)).await,
            Err(error) => {
                tracing::debug!(%name, error = &error as &dyn std::error::Error, "no answer can be built");
                Reply::error(ResponseCode::ServFail)
            }
        };
        shuffle(&mut reply.answers);
        reply
    }

    fn is_ours(&self, name: &LowerName) -> bool {
        self.origin.zone_of(name) || LowerName::from(IN_ADDR_ARPA.clone()).zone_of(name)
    }

    /// Appends what an alias out of the zone leads to, if an upstream server knows; the alias alone is an
    /// answer too.
    async fn complete(&self, mut answer: Answer, kind: RecordType, zone: &Zone) -> Reply {
        if let Some(target) = answer.outside.take().filter(|_| !self.upstream.is_empty()) {
            let found = self.upstream.ask(&target, kind, Some(zone)).await;
            answer.answers.extend(found.answers);
        }
        answer.into()
    }
}

/// Addresses in any order, behind the aliases that lead to them: clients that take the first spread over all.
fn shuffle(answers: &mut [Record]) {
    answers.sort_by_key(|record| matches!(record.record_type(), RecordType::A | RecordType::AAAA));
    let first = answers.partition_point(|record| !matches!(record.record_type(), RecordType::A | RecordType::AAAA));
    answers[first..].shuffle(&mut rand::rng());
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut responses: R) -> ResponseInfo {
        let reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = reply.recursion_available;

        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().clamp(PAYLOAD.0, PAYLOAD.1));
            builder.edns(&edns);
        }
        let message = builder.build(metadata, &reply.answers, &reply.authority, [], &reply.additional);
        responses.send_response(message).await.unwrap_or_else(|error| {
            tracing::debug!(client = %request.src(), error = &error as &dyn std::error::Error, "response not sent");
            ResponseInfo::from(Header {
                metadata,
                counts: HeaderCounts::default(),
            })
        })
    }
}
