//! Analysis: whether anybody but a few stuck goroutines can get at what they wait for. On a channel
//! anybody may send who has it, so goroutines that wait for one another at channels are only stuck for
//! good if nobody else has those. This asks memory backwards, as far as the garbage collector would look:
//! who points at the channels, who points at those, until it is a goroutine, a global variable, or
//! nothing. Goroutines that hold one and are stuck themselves join the ring, with what they wait for.
//!
//! A word that looks like a pointer counts as one, so an answer of "nobody" is proof and the other one
//! need not be: in a core, and where no goroutine ran meanwhile. Else the last pointer may have been moved
//! from where was not looked yet to where was looked already, so a process that goes on is asked again and
//! again, with pauses, and must give the same answer each time. Whoever of the ring has moved by then ends
//! it.

mod look;
mod scan;

use super::blocked::{Blocked, Inputs, Kind};
use super::graph::{Fate, Seclusion, is_closed};
use super::wakers::{Agent, Answers, Trust};
use crate::addr::{Addr, Span};
use crate::image::Image;
use crate::image::layout::rules::FuncKind;
use crate::runtime::capture::Instant;
use crate::runtime::heap::Special;
use crate::runtime::{G, Status};
use look::{Look, Place};
use rustc_hash::FxHashSet;
use scan::Targets;
use std::cell::Cell;
use std::time::Duration;

/// Bytes of memory that are searched for all rings together: seconds' worth.
const BUDGET: u64 = 12 << 30;

/// Times that a process is asked whose goroutines run meanwhile. Of pointers that are moved once in a
/// millisecond, one look misses one in 80.
const LOOKS: usize = 8;

/// Times that it is asked at most, with those that answer nothing.
const MOST_LOOKS: usize = 2 * LOOKS;

/// Time between two of them: nobody hands on and on what he has for so long without a break.
const BETWEEN: Duration = Duration::from_millis(20);

/// Pauses that are made for all rings together: three seconds' worth.
const PAUSES: u64 = 150;

/// Most objects that are followed backwards from one ring.
const MOST_OBJECTS: usize = 1 << 16;

/// Looks for whoever has what goroutines wait for.
pub struct Reach<'a> {
    inputs: &'a Inputs<'a>,
    blocked: &'a Blocked,
    answers: &'a Answers,
    /// Bytes that may still be read.
    left: Cell<u64>,
    /// Pauses that may still be made.
    pauses: Cell<u64>,
}

/// The ring so far, and what is looked for.
#[derive(Default)]
struct Inside {
    goroutines: FxHashSet<u32>,
    objects: FxHashSet<Addr>,
    /// Objects whose pointers were not looked for yet.
    fresh: Vec<Span>,
}

/// Whether the answer is proved.
enum Proof {
    /// Nothing ran while memory was searched.
    Whole,
    /// Something may have escaped.
    Partial,
}

/// Why a look did not answer that nobody else can get at it.
enum Open {
    /// Somebody can, or that can't be known.
    Known,
    /// A goroutine that ran has a word of it somewhere on its stack, maybe one that is not in use: the next
    /// look may meet it parked.
    Unclear,
}

impl Seclusion for Reach<'_> {
    fn is_secluded(&self, ring: &[u32], fates: &[Fate]) -> bool {
        if self.runs_finalizers() {
            return false;
        }
        // Objects on the way to those of the ring are looked for at once the next time.
        let mut known = Vec::new();
        let mut agreed = 0;
        for look in 0..MOST_LOOKS {
            if look > 0 {
                if take(&self.pauses, 1).is_err() {
                    return false;
                }
                std::thread::sleep(BETWEEN);
            }
            match self.look(ring, fates, &mut known) {
                Ok(Proof::Whole) => return true,
                Ok(Proof::Partial) => agreed += 1,
                Err(Open::Unclear) if self.inputs.snapshot.instant != Instant::Core => {}
                Err(_) => return false,
            }
            if agreed == LOOKS {
                return true;
            }
        }
        false
    }
}

impl<'a> Reach<'a> {
    /// Gets ready for the rings of `blocked`.
    pub fn new(inputs: &'a Inputs<'a>, blocked: &'a Blocked, answers: &'a Answers) -> Reach<'a> {
        Reach { inputs, blocked, answers, left: Cell::new(BUDGET), pauses: Cell::new(PAUSES) }
    }

    fn look(&self, ring: &[u32], fates: &[Fate], known: &mut Vec<Addr>) -> Result<Proof, Open> {
        take(&self.left, Look::cost(self.inputs))?;
        let look = Look::now(self.inputs).ok_or(Open::Known)?;
        let specials = look.specials().ok_or(Open::Known)?;
        let mut inside = Inside::default();
        for index in ring {
            self.join(*index, fates, &look, &mut inside)?;
        }
        for object in known.iter().filter_map(|at| look.object(*at)) {
            inside.add(object)?;
        }
        let areas = [look.outside(), look.heap()];
        while !inside.fresh.is_empty() {
            let targets = Targets::new(std::mem::take(&mut inside.fresh));
            refuse_if(specials.iter().any(|special| concerns(special, &targets)))?;
            refuse_if(self.in_registers(&targets))?;
            for area in &areas {
                take(&self.left, area.iter().map(|span| span.len).fold(0, u64::saturating_add))?;
                let hits = scan::hits(look.memory(), area, &targets).ok_or(Open::Known)?;
                for hit in hits {
                    self.follow(hit, fates, &look, &mut inside)?;
                }
            }
        }
        refuse_if(!inside.goroutines.iter().all(|index| look.is_as_before(*index)))?;
        known.extend(inside.objects);
        known.sort_unstable();
        known.dedup();
        let core = self.inputs.snapshot.instant == Instant::Core;
        Ok(if core || look.nothing_ran() { Proof::Whole } else { Proof::Partial })
    }

    /// Adds a goroutine to the ring: whoever could wake it must be in it, too, or be nobody.
    fn join(&self, index: u32, fates: &[Fate], look: &Look<'_>, inside: &mut Inside) -> Result<(), Open> {
        let mut all = vec![index];
        while let Some(index) = all.pop() {
            refuse_if(fates.get(index as usize) != Some(&Fate::Stuck))?;
            if !inside.goroutines.insert(index) {
                continue;
            }
            let on = self.blocked.on(index as usize).ok_or(Open::Known)?;
            refuse_if(on.wants.is_empty() && on.kind != Kind::Forever)?;
            for want in &on.wants {
                let known = self.answers.of(*want).iter().filter(|waker| waker.trust >= Trust::Likely);
                let known: Vec<Agent> = known.map(|waker| waker.agent).collect();
                if is_closed(self.blocked, *want) && !known.is_empty() {
                    for agent in known {
                        let Agent::Goroutine(waker) = agent else { return Err(Open::Known) };
                        all.push(waker);
                    }
                } else {
                    let at = self.blocked.object(want.object).ok_or(Open::Known)?.address;
                    inside.add(look.object(at).ok_or(Open::Known)?)?;
                }
            }
        }
        Ok(())
    }

    /// What a pointer at `at` means.
    fn follow(&self, at: Addr, fates: &[Fate], look: &Look<'_>, inside: &mut Inside) -> Result<(), Open> {
        match look.place(at) {
            Place::Nothing => Ok(()),
            Place::Object(object) => inside.add(object),
            Place::Global | Place::Goroutine(None) | Place::Stack(None) => Err(Open::Known),
            Place::Stack(Some(index)) | Place::Running(Some(index)) if inside.goroutines.contains(&index) => {
                Ok(())
            }
            Place::Running(_) => Err(Open::Unclear),
            Place::Stack(Some(index)) if look.is_as_before(index) && self.is_dead(index, at) => Ok(()),
            Place::Stack(Some(index)) | Place::Goroutine(Some(index)) => {
                self.join(index, fates, look, inside)
            }
        }
    }

    /// Whether a word of a parked goroutine's stack is not needed any more.
    fn is_dead(&self, index: u32, at: Addr) -> bool {
        let Some(g) = self.inputs.g(index as usize).filter(|g| g.panic.is_null()) else { return false };
        !self.inputs.unwinder.may_be_live(&self.inputs.unwinder.walk(g), at)
    }

    /// Whether a goroutine that runs has one in a register. What a thread that runs none has there is left
    /// over from earlier.
    fn in_registers(&self, targets: &Targets) -> bool {
        let snapshot = self.inputs.snapshot;
        let running = snapshot.gs.iter().filter(|g| g.status == Status::Running);
        let threads = running.filter_map(|g| snapshot.thread_of(snapshot.m_of(g)?)?.registers.as_ref());
        threads.flat_map(|registers| registers.general.all()).any(|word| targets.contain(word))
    }

    /// Whether finalizers or cleanups run: what their goroutine has taken from its queue lies outside of the
    /// heap (runtime/mfinal.go, runtime/mcleanup.go).
    fn runs_finalizers(&self) -> bool {
        let Image { modules, rules, .. } = self.inputs.image;
        let kind = |g: &G| modules.find(g.startpc).map(|start| rules.func_kind(start.id()));
        let runner = |g: &G| {
            matches!(kind(g), Some(FuncKind::Runfinq | FuncKind::RunFinalizers | FuncKind::RunCleanups))
        };
        let idle = |index: u32| self.blocked.on(index as usize).is_some_and(|on| on.kind == Kind::Finalizer);
        (0u32..).zip(&self.inputs.snapshot.gs).any(|(index, g)| runner(g) && !idle(index))
    }
}

/// Takes `amount` off what is left.
fn take(left: &Cell<u64>, amount: u64) -> Result<(), Open> {
    left.set(left.get().checked_sub(amount).ok_or(Open::Known)?);
    Ok(())
}

impl Inside {
    fn add(&mut self, object: Span) -> Result<(), Open> {
        if self.objects.insert(object.start) {
            self.fresh.push(object);
        }
        refuse_if(self.objects.len() > MOST_OBJECTS)
    }
}

/// Whether a finalizer or cleanup would get at one of the objects.
fn concerns(special: &Special, targets: &Targets) -> bool {
    let of = special.of.iter().map(|at| at.get());
    of.chain(special.words.iter().copied()).any(|word| targets.contain(word))
}

fn refuse_if(open: bool) -> Result<(), Open> {
    if open { Err(Open::Known) } else { Ok(()) }
}
