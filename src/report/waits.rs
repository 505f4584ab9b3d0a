//! Report: the part of the scripting contract that `allgs why` adds: what each goroutine waits for, the
//! situations, and the graph of who waits for whom.

use super::model::Hex;
use crate::analysis::blocked::{BlockedOn, Object, ObjectId, State, Want};
use crate::analysis::select::Selection;
use crate::analysis::situations::Situation;
use crate::analysis::survey::Survey;
use crate::analysis::wakers::{Agent, Trust, Waker};
use crate::analysis::why::Why;
use crate::source::descriptors::Descriptor;
use serde::{Serialize, Serializer};

/// What one goroutine waits for.
#[derive(Serialize)]
pub struct BlockedModel<'a> {
    kind: &'static str,
    operation: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objects: Vec<ObjectModel<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    wakers: Vec<WakerModel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_in_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<FdModel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_call: Option<&'a str>,
}

impl<'a> BlockedModel<'a> {
    /// What the contract says of the goroutine at `index`; `None` when it waits for nothing.
    pub fn of(index: u32, why: &'a Why, survey: &Survey<'_>) -> Option<BlockedModel<'a>> {
        let on: &BlockedOn = why.blocked.on(index as usize)?;
        let objects = on.wants.iter().filter_map(|want| {
            Some(ObjectModel::of(why.blocked.object(want.object)?, *want, on.wants.len() > 1))
        });
        let wakers = why.answers.of_goroutine(index, &why.blocked);
        Some(BlockedModel {
            kind: on.kind.as_str(),
            operation: on.operation.as_str(),
            objects: objects.collect(),
            wakers: wakers.into_iter().map(|waker| WakerModel::of(waker, survey)).collect(),
            deadline_in_ns: on.deadline_in,
            fd: on.fd.as_deref().map(FdModel::of),
            system_call: on.call.as_deref(),
        })
    }
}

#[derive(Serialize)]
struct ObjectModel<'a> {
    address: Hex,
    kind: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_name: Option<&'a str>,
    waiters: usize,
    /// What this case of a select would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(flatten)]
    state: StateModel,
}

impl<'a> ObjectModel<'a> {
    fn of(object: &'a Object, want: Want, one_of_many: bool) -> ObjectModel<'a> {
        ObjectModel {
            address: Hex(object.address),
            kind: object.kind.as_str(),
            type_name: object.type_name.as_deref(),
            waiters: object.waiters.len(),
            operation: one_of_many.then_some(want.operation.as_str()),
            state: StateModel::of(&object.state),
        }
    }
}

/// What an object says of itself; the members that its kind has.
#[derive(Serialize, Default)]
struct StateModel {
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readers: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<i32>,
}

impl StateModel {
    fn of(state: &State) -> StateModel {
        let none = StateModel::default();
        match *state {
            State::Channel { len, capacity, closed, .. } => {
                StateModel { len: Some(len), capacity: Some(capacity), closed: Some(closed), ..none }
            }
            State::Mutex { locked, .. } => StateModel { locked: Some(locked), ..none },
            State::RwMutex { writer, readers, .. } => {
                StateModel { writer: Some(writer), readers: Some(readers), ..none }
            }
            State::WaitGroup { counter, .. } => StateModel { counter: Some(counter), ..none },
            State::Descriptor { .. } | State::None => none,
        }
    }
}

#[derive(Serialize)]
struct WakerModel<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine: Option<u64>,
    /// What it is, when it is no goroutine.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    trust: &'static str,
    because: &'a str,
}

impl<'a> WakerModel<'a> {
    fn of(waker: &'a Waker, survey: &Survey<'_>) -> WakerModel<'a> {
        let (goroutine, by) = match waker.agent {
            Agent::Goroutine(index) => (id(survey, index), None),
            Agent::Time => (None, Some("time")),
            Agent::Outside => (None, Some("outside")),
        };
        WakerModel { goroutine, by, trust: waker.trust.as_str(), because: &waker.because }
    }
}

#[derive(Serialize)]
struct FdModel<'a> {
    number: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
}

impl<'a> FdModel<'a> {
    fn of(fd: &'a Descriptor) -> FdModel<'a> {
        FdModel {
            number: fd.number,
            kind: Some(fd.kind.as_str()).filter(|kind| *kind != "unknown"),
            local: fd.local.as_deref(),
            remote: fd.remote.as_deref(),
            state: fd.state,
            unread: fd.unread,
        }
    }
}

/// Goroutines that are listed of one situation; `count` says how many there are.
const LISTED: usize = 1000;

/// One situation.
#[derive(Serialize)]
pub struct SituationModel {
    kind: &'static str,
    trust: &'static str,
    goroutines: Vec<u64>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<Node>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objects: Vec<Hex>,
    text: String,
}

impl SituationModel {
    /// What the contract says of a situation.
    pub fn of(situation: &Situation, why: &Why, survey: &Survey<'_>) -> SituationModel {
        let address = |id: &ObjectId| why.blocked.object(*id).map(|object| Hex(object.address));
        SituationModel {
            kind: situation.kind.as_str(),
            trust: situation.trust.as_str(),
            goroutines: situation.goroutines.iter().take(LISTED).filter_map(|i| id(survey, *i)).collect(),
            count: situation.count,
            root: situation.root.and_then(|index| Node::goroutine(survey, index)),
            objects: situation.objects.iter().filter_map(address).collect(),
            text: situation.text.join("\n"),
        }
    }
}

/// A node of the graph: a goroutine or an object.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// A goroutine, by its number.
    Goroutine(u64),
    /// An object, by its address.
    Object(#[serde(serialize_with = "hex")] crate::addr::Addr),
}

fn hex<S: Serializer>(at: &crate::addr::Addr, to: S) -> Result<S::Ok, S::Error> {
    Hex(*at).serialize(to)
}

impl Node {
    fn goroutine(survey: &Survey<'_>, index: u32) -> Option<Node> {
        id(survey, index).map(Node::Goroutine)
    }
}

/// One edge: `from` cannot go on without `to`.
#[derive(Serialize, Clone, Copy)]
pub struct Edge {
    /// Who or what waits.
    pub from: Node,
    /// For whom or what.
    pub to: Node,
    #[serde(serialize_with = "word")]
    /// How sure that is.
    pub trust: Trust,
}

fn word<S: Serializer>(trust: &Trust, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(trust.as_str())
}

/// The edges between goroutines and objects that the document shows: first from goroutines to what they
/// want, then from objects to those who could make it possible.
pub fn edges<'a>(
    why: &'a Why,
    survey: &'a Survey<'a>,
    selection: &'a Selection,
) -> impl Iterator<Item = Edge> + 'a {
    let shown = Shown::of(why, survey, selection);
    let wanted = shown.clone();
    let goroutines = (0u32..).zip(&why.blocked.of).filter_map(|(i, on)| Some((i, on.as_ref()?)));
    let wants = goroutines.flat_map(move |(index, on)| {
        let object = |want: &Want| Some((wanted.object(want.object, why)?, Trust::Certain));
        let partners = why.answers.without_object(index).iter();
        let partners = partners.filter_map(|waker| Some((wanted.agent(waker.agent, survey)?, waker.trust)));
        let from = wanted.agent(Agent::Goroutine(index), survey);
        let edge = |(to, trust)| Some(Edge { from: from?, to, trust });
        on.wants.iter().filter_map(object).chain(partners).filter_map(edge).collect::<Vec<_>>()
    });
    let wakers = why.answers.wants().flat_map(move |(want, wakers)| {
        let from = shown.object(want.object, why);
        let edge = |waker: &Waker| {
            Some(Edge { from: from?, to: shown.agent(waker.agent, survey)?, trust: waker.trust })
        };
        wakers.iter().filter_map(edge).collect::<Vec<_>>()
    });
    wants.chain(wakers)
}

/// What a document shows.
#[derive(Clone)]
struct Shown {
    goroutines: Vec<bool>,
    objects: Vec<bool>,
}

impl Shown {
    fn of(why: &Why, survey: &Survey<'_>, selection: &Selection) -> Shown {
        let mut shown = Shown {
            goroutines: vec![false; survey.goroutines().len()],
            objects: vec![false; why.blocked.objects.len()],
        };
        for index in &selection.indices {
            if let Some(goroutine) = shown.goroutines.get_mut(*index as usize) {
                *goroutine = true;
            }
            let wants = why.blocked.on(*index as usize).map_or(&[][..], |on| on.wants.as_slice());
            for want in wants {
                if let Some(object) = shown.objects.get_mut(want.object.0 as usize) {
                    *object = true;
                }
            }
        }
        shown
    }

    fn object(&self, id: ObjectId, why: &Why) -> Option<Node> {
        let shown = self.objects.get(id.0 as usize) == Some(&true);
        Some(Node::Object(why.blocked.object(id).filter(|_| shown)?.address))
    }

    fn agent(&self, agent: Agent, survey: &Survey<'_>) -> Option<Node> {
        let Agent::Goroutine(index) = agent else { return None };
        let shown = self.goroutines.get(index as usize) == Some(&true);
        Node::goroutine(survey, index).filter(|_| shown)
    }
}

fn id(survey: &Survey<'_>, index: u32) -> Option<u64> {
    survey.goroutines().get(index as usize).map(|g| g.id.0)
}
