//! A response before it is put on the wire, wherever it comes from. Pure data.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Record;

use crate::plan::dns_zone::Answer;

/// A response before it is put on the wire.
#[derive(Debug)]
pub(super) struct Reply {
    pub code: ResponseCode,
    pub authoritative: bool,
    pub recursion_available: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

impl Reply {
    pub fn error(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            recursion_available: false,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self {
            code: answer.code,
            authoritative: true,
            recursion_available: false,
            answers: answer.answers,
            authority: answer.authority,
            additional: answer.additional,
        }
    }
}
