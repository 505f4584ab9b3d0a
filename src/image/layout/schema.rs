//! Image, layout: THE declarations. Every structure of the runtime that is decoded, each member with
//! its width, the names it had, and the releases that must have it. Offsets are not here: they come
//! from the target's DWARF or from the built-in tables (`baked/`), and a member that a release must
//! have and hasn't is an error that names it.
//!
//! `req` members are in every release 1.18 to 1.27; `opt` members from the first minor release named
//! to the last (`_` = still there). Alternatives are tried in order: the runtime renamed some members.

use super::field::Field;
use crate::addr::{Addr, Nanotime};

/// One member as it is declared.
#[derive(Debug, Clone, Copy)]
pub struct FieldDecl {
    /// Our name of it.
    pub name: &'static str,
    /// The runtime's names, dotted for nested members; the first that exists counts.
    pub paths: &'static [&'static str],
    /// Minor releases that must have it.
    pub needed: (u16, u16),
}

/// One structure as it is declared.
#[derive(Debug, Clone, Copy)]
pub struct StructDecl {
    /// Go's name with the package.
    pub go_name: &'static str,
    /// Its members.
    pub fields: &'static [FieldDecl],
}

/// Answers where a member lies; what it can't answer and the release must have is remembered.
pub trait Binder {
    /// Offset of the member in bytes, if the source of layouts knows it.
    fn offset(&mut self, of: &StructDecl, field: &FieldDecl) -> Option<u32>;
    /// Size of the structure in bytes, if known.
    fn size(&mut self, of: &StructDecl) -> Option<u32>;
}

macro_rules! last {
    (_) => {
        u16::MAX
    };
    ($minor:literal) => {
        $minor
    };
}

macro_rules! structs {
    ($($(#[$doc:meta])* $Name:ident = $go:literal {
        req { $($r:ident : $rt:ty = $($rp:literal)|+ ;)* }
        opt { $($o:ident : $ot:ty = $($op:literal)|+ in $first:literal .. $last:tt ;)* }
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            #[allow(missing_docs)]
            pub struct $Name {
                /// Size of the structure, in bytes.
                pub size: u32,
                $(pub $r: Field<$rt>,)*
                $(pub $o: Option<Field<$ot>>,)*
            }

            impl $Name {
                /// The declaration.
                pub const DECL: StructDecl = StructDecl {
                    go_name: $go,
                    fields: &[
                        $(FieldDecl { name: stringify!($r), paths: &[$($rp),+], needed: (0, u16::MAX) },)*
                        $(FieldDecl { name: stringify!($o), paths: &[$($op),+], needed: ($first, last!($last)) },)*
                    ],
                };

                /// Settles all offsets; `None` if a required one is unknown (the binder remembers which).
                pub fn bind(binder: &mut dyn Binder) -> Option<$Name> {
                    let mut fields = Self::DECL.fields.iter();
                    let mut next = || fields.next().and_then(|f| binder.offset(&Self::DECL, f));
                    $(let $r = next();)*
                    $(let $o = next();)*
                    Some($Name {
                        size: binder.size(&Self::DECL)?,
                        $($r: Field::at($r?),)*
                        $($o: $o.map(Field::at),)*
                    })
                }
            }
        )*

        /// All declarations, for the generator of built-in tables and for tests.
        pub const ALL: &[&StructDecl] = &[$(&$Name::DECL),*];
    };
}

structs! {
    /// `runtime/runtime2.go`, `type g struct`.
    G = "runtime.g" {
        req {
            stack_lo: Addr = "stack.lo";
            stack_hi: Addr = "stack.hi";
            deferred: Addr = "_defer";
            panic: Addr = "_panic";
            m: Addr = "m";
            sig: u32 = "sig";
            sigcode0: u64 = "sigcode0";
            sigcode1: Addr = "sigcode1";
            sigpc: Addr = "sigpc";
            sched_sp: Addr = "sched.sp";
            sched_pc: Addr = "sched.pc";
            sched_ctxt: Addr = "sched.ctxt";
            sched_lr: Addr = "sched.lr";
            sched_bp: Addr = "sched.bp";
            syscallsp: Addr = "syscallsp";
            syscallpc: Addr = "syscallpc";
            param: Addr = "param";
            atomicstatus: u32 = "atomicstatus";
            goid: u64 = "goid";
            schedlink: Addr = "schedlink";
            waitsince: Nanotime = "waitsince";
            waitreason: u8 = "waitreason";
            active_stack_chans: u8 = "activeStackChans";
            parking_on_chan: u8 = "parkingOnChan";
            lockedm: Addr = "lockedm";
            gopc: Addr = "gopc";
            ancestors: Addr = "ancestors";
            startpc: Addr = "startpc";
            waiting: Addr = "waiting";
            labels: Addr = "labels";
            timer: Addr = "timer";
            select_done: u32 = "selectDone";
            tracking_seq: u8 = "trackingSeq";
        }
        opt {
            parent_goid: u64 = "parentGoid" in 21.._;
            syscallbp: Addr = "syscallbp" in 23.._;
            sleep_when: Nanotime = "sleepWhen" in 23.._;
            coroarg: Addr = "coroarg" in 22.._;
            bubble: Addr = "bubble" | "syncGroup" in 24.._;
            running_cleanups: u8 = "runningCleanups" in 25.._;
        }
    }

    /// `runtime/runtime2.go`, `type m struct`.
    M = "runtime.m" {
        req {
            g0: Addr = "g0";
            procid: u64 = "procid";
            gsignal: Addr = "gsignal";
            mstartfn: Addr = "mstartfn";
            curg: Addr = "curg";
            p: Addr = "p";
            nextp: Addr = "nextp";
            oldp: Addr = "oldp";
            id: i64 = "id";
            throwing: i32 = "throwing";
            preemptoff: Addr = "preemptoff";
            locks: i32 = "locks";
            dying: i32 = "dying";
            spinning: u8 = "spinning";
            blocked: u8 = "blocked";
            incgo: u8 = "incgo";
            alllink: Addr = "alllink";
            lockedg: Addr = "lockedg";
            vdso_sp: Addr = "vdsoSP";
            vdso_pc: Addr = "vdsoPC";
        }
        opt {
            isextra: u8 = "isextra" in 20.._;
        }
    }

    /// `runtime/runtime2.go`, `type p struct`.
    P = "runtime.p" {
        req {
            id: i32 = "id";
            status: u32 = "status";
            m: Addr = "m";
            runqhead: u32 = "runqhead";
            runqtail: u32 = "runqtail";
            runq: Addr = "runq";
            runnext: Addr = "runnext";
            timers: Addr = "timers.heap" | "timers";
        }
        opt {}
    }

    /// `runtime/runtime2.go`, `type schedt struct`.
    Sched = "runtime.schedt" {
        req {
            lock: u64 = "lock";
            mnext: i64 = "mnext";
            nmidle: i32 = "nmidle";
            npidle: u32 = "npidle";
            runq_head: Addr = "runq.head";
            runq_tail: Addr = "runq.tail";
            gcwaiting: u32 = "gcwaiting";
            stopwait: i32 = "stopwait";
            lastpoll: Nanotime = "lastpoll";
        }
        opt {}
    }

    /// `runtime/symtab.go`, `type moduledata struct`. Slices are at the member, three words each.
    Moduledata = "runtime.moduledata" {
        req {
            pc_header: Addr = "pcHeader";
            funcnametab: Addr = "funcnametab";
            cutab: Addr = "cutab";
            filetab: Addr = "filetab";
            pctab: Addr = "pctab";
            pclntable: Addr = "pclntable";
            ftab: Addr = "ftab";
            minpc: Addr = "minpc";
            maxpc: Addr = "maxpc";
            text: Addr = "text";
            etext: Addr = "etext";
            noptrdata: Addr = "noptrdata";
            data: Addr = "data";
            bss: Addr = "bss";
            noptrbss: Addr = "noptrbss";
            enoptrbss: Addr = "enoptrbss";
            types: Addr = "types";
            etypes: Addr = "etypes";
            rodata: Addr = "rodata";
            gofunc: Addr = "gofunc";
            textsectmap: Addr = "textsectmap";
            pluginpath: Addr = "pluginpath";
            modulename: Addr = "modulename";
            bad: u8 = "bad";
            next: Addr = "next";
        }
        opt {}
    }

    /// `runtime/runtime2.go`, `type sudog struct`. From 1.26 `elem` and `c` are two words, of which
    /// the second is always set (`maybeTraceablePtr.vu`).
    Sudog = "runtime.sudog" {
        req {
            g: Addr = "g";
            next: Addr = "next";
            prev: Addr = "prev";
            elem: Addr = "elem.vu" | "elem";
            ticket: u32 = "ticket";
            is_select: u8 = "isSelect";
            success: u8 = "success";
            parent: Addr = "parent";
            waitlink: Addr = "waitlink";
            waittail: Addr = "waittail";
            c: Addr = "c.maybeTraceablePtr.vu" | "c";
        }
        opt {}
    }

    /// `runtime/runtime2.go`, `type _defer struct`.
    Defer = "runtime._defer" {
        req {
            sp: Addr = "sp";
            func: Addr = "fn";
            link: Addr = "link";
        }
        opt {
            open_defer: u8 = "openDefer" in 18..21;
            rangefunc: u8 = "rangefunc" in 22.._;
            head: Addr = "head" in 22.._;
        }
    }

    /// `runtime/chan.go`, `type hchan struct`.
    Hchan = "runtime.hchan" {
        req {
            qcount: u64 = "qcount";
            dataqsiz: u64 = "dataqsiz";
            buf: Addr = "buf";
            elemsize: u16 = "elemsize";
            closed: u32 = "closed";
            elemtype: Addr = "elemtype";
            recvq_first: Addr = "recvq.first";
            recvq_last: Addr = "recvq.last";
            sendq_first: Addr = "sendq.first";
            sendq_last: Addr = "sendq.last";
        }
        opt {
            timer: Addr = "timer" in 23.._;
        }
    }

    /// `runtime/sema.go`, `type semaRoot struct`.
    SemaRoot = "runtime.semaRoot" {
        req {
            treap: Addr = "treap";
            nwait: u32 = "nwait";
        }
        opt {}
    }

    /// `runtime/mheap.go`, `type mheap struct`. The slice is at the member, three words.
    Mheap = "runtime.mheap" {
        req {
            allspans: Addr = "allspans";
        }
        opt {}
    }

    /// `runtime/mheap.go`, `type mspan struct`. Until 1.21 `freeindex` and `nelems` are whole words, of
    /// which the lower half has all there is: no span holds more than 1,024 objects.
    Mspan = "runtime.mspan" {
        req {
            start_addr: Addr = "startAddr";
            npages: u64 = "npages";
            freeindex: u16 = "freeindex";
            nelems: u16 = "nelems";
            alloc_bits: Addr = "allocBits";
            spanclass: u8 = "spanclass";
            state: u8 = "state";
            elemsize: u64 = "elemsize";
            specials: Addr = "specials";
        }
        opt {}
    }

    /// `runtime/mheap.go`, `type special struct`. Of `offset`, a word since 1.24, only the lower 16 bits
    /// are read.
    Special = "runtime.special" {
        req {
            next: Addr = "next";
            offset: u16 = "offset";
        }
        opt {}
    }

    /// `runtime/netpoll.go`, `type pollDesc struct`.
    PollDesc = "runtime.pollDesc" {
        req {
            link: Addr = "link";
            fd: u64 = "fd";
            rg: Addr = "rg";
            wg: Addr = "wg";
            closing: u8 = "closing";
            rd: Nanotime = "rd";
            wd: Nanotime = "wd";
            this: Addr = "self";
        }
        opt {}
    }

    /// `runtime/time.go`, `type timer struct`.
    Timer = "runtime.timer" {
        req {
            when: Nanotime = "when";
            period: i64 = "period";
            f: Addr = "f";
            arg_type: Addr = "arg";
        }
        opt {
            nextwhen: Nanotime = "nextwhen" in 18..22;
            status: u32 = "status" in 18..22;
            state: u8 = "state" in 23.._;
            ts: Addr = "ts" in 23.._;
        }
    }
}
