//! Image, layout: how the runtime of a release behaves, where that is not a matter of offsets. The
//! values are in the tables (`baked/`), one line each; nothing above this layer asks for a release.

use super::table::Chosen;
use crate::arch::Arch;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Provenance;

/// What a special function is, by its funcID (`internal/abi/symtab.go`, before 1.21
/// `runtime/symtab.go`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum FuncKind {
    Normal,
    Abort,
    Asmcgocall,
    AsyncPreempt,
    Cgocallback,
    Corostart,
    DebugCall,
    GcBgMarkWorker,
    Goexit,
    Gogo,
    Gopanic,
    HandleAsyncEvent,
    Mcall,
    Morestack,
    Mstart,
    Panicwrap,
    Rt0Go,
    Runfinq,
    RuntimeMain,
    RunFinalizers,
    RunCleanups,
    Sigpanic,
    Systemstack,
    SystemstackSwitch,
    Wrapper,
    /// A number that this release does not define.
    Other,
}

/// The runtime's names of the kinds, as the tables have them.
const FUNC_NAMES: &[(&str, FuncKind)] = &[
    ("normal", FuncKind::Normal),
    ("abort", FuncKind::Abort),
    ("asmcgocall", FuncKind::Asmcgocall),
    ("asyncPreempt", FuncKind::AsyncPreempt),
    ("cgocallback", FuncKind::Cgocallback),
    ("corostart", FuncKind::Corostart),
    ("debugCallV2", FuncKind::DebugCall),
    ("gcBgMarkWorker", FuncKind::GcBgMarkWorker),
    ("goexit", FuncKind::Goexit),
    ("gogo", FuncKind::Gogo),
    ("gopanic", FuncKind::Gopanic),
    ("handleAsyncEvent", FuncKind::HandleAsyncEvent),
    ("mcall", FuncKind::Mcall),
    ("morestack", FuncKind::Morestack),
    ("mstart", FuncKind::Mstart),
    ("panicwrap", FuncKind::Panicwrap),
    ("rt0_go", FuncKind::Rt0Go),
    ("runfinq", FuncKind::Runfinq),
    ("runtime_main", FuncKind::RuntimeMain),
    ("runFinalizers", FuncKind::RunFinalizers),
    ("runCleanups", FuncKind::RunCleanups),
    ("sigpanic", FuncKind::Sigpanic),
    ("systemstack", FuncKind::Systemstack),
    ("systemstack_switch", FuncKind::SystemstackSwitch),
    ("wrapper", FuncKind::Wrapper),
];

/// Makes an enumeration whose variants have a word in the tables.
macro_rules! choices {
    ($(#[$doc:meta])* $Name:ident { $($(#[$vdoc:meta])* $Variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $Name { $($(#[$vdoc])* $Variant,)* }
        impl $Name {
            fn read(word: &str) -> Option<$Name> {
                match word {
                    $($word => Some($Name::$Variant),)*
                    _ => None,
                }
            }
        }
    };
}

choices! {
    /// How names of generic functions are printed.
    Brackets {
        /// As the tables have them (1.18 to 1.20).
        AsIs = "as_is",
        /// From the first `[` to the last `]` becomes `[...]` (1.21+).
        Dots = "dots",
        /// The same, but what is between `][` of a generic method stays (1.27+).
        KeepMiddle = "keep_middle",
    }
}
choices! {
    /// Below which injected calls the frame's own pc counts, not pc - 1.
    TrapCalls {
        /// Below sigpanic alone (1.18 to 1.20).
        Sigpanic = "sigpanic",
        /// Below sigpanic, asyncPreempt and debugCallV2 (1.21+).
        All = "all",
    }
}
choices! {
    /// The pc by which it is known which arguments are live.
    LivenessPc {
        /// The one left over after the walk over inlined calls (1.18 to 1.20).
        AfterInlineWalk = "after_inline_walk",
        /// The frame's symbol pc (1.21+).
        SymbolPc = "symbol_pc",
    }
}
choices! {
    /// How long stacks are cut.
    FrameLimit {
        /// 100 physical frames are walked, hidden ones count (1.18 to 1.20).
        Physical100 = "physical_100",
        /// First 50 and last 50 visible logical frames (1.21+).
        Halves50 = "halves_50",
    }
}
choices! {
    /// When `(durable)` is in a header.
    Durable {
        /// Never (until 1.24).
        Never = "never",
        /// In a bubble with a reason that is idle there (1.25).
        IdleReason = "idle_reason",
        /// The same, and the status is waiting (1.26+).
        IdleReasonWaiting = "idle_reason_waiting",
    }
}
choices! {
    /// How a header names a synctest bubble.
    BubbleText {
        /// There are none (until 1.23).
        None = "none",
        /// `synctest group` and the number of its root goroutine (1.24).
        Group = "group",
        /// `synctest bubble` and its own number (1.25+).
        Bubble = "bubble",
    }
}
choices! {
    /// Where labels are in a header.
    LabelsInHeader {
        /// Nowhere (until 1.25).
        Nowhere = "nowhere",
        /// Inside the brackets, if GODEBUG asks for them (1.26).
        Inside = "inside",
        /// After the brackets, unless GODEBUG forbids them (1.27+).
        After = "after",
    }
}
choices! {
    /// What `g.labels` points to (`runtime/pprof/label.go`).
    LabelsForm {
        /// A pointer to a map (until 1.23).
        Map = "map",
        /// A slice of pairs (1.24+).
        Slice = "slice",
    }
}
choices! {
    /// What a map is.
    MapForm {
        /// `runtime.hmap` with buckets (until 1.23, and by GOEXPERIMENT=noswissmap in 1.24 and 1.25).
        Buckets = "buckets",
        /// `internal/runtime/maps.Map` with groups (1.24+).
        Swiss = "swiss",
    }
}
choices! {
    /// What the runtime gives the kernel as epoll data (`runtime/netpoll_epoll.go`).
    PollTag {
        /// The address of the pollDesc (until 1.20).
        Plain = "plain",
        /// The address above a tag of 19 bits (1.21 to 1.24).
        Bits19 = "bits_19",
        /// The address above a tag of 18 bits (1.25+).
        Bits18 = "bits_18",
    }
}

/// The behaviour of one release.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How well they are known: built in, or those of the nearest release.
    pub by: Provenance,
    /// Whether status 10 is `leaked` (1.26+).
    pub status_leaked: bool,
    /// Whether status 11 is `deadextra` (1.26+).
    pub status_deadextra: bool,
    /// How names of generic functions are printed.
    pub brackets: Brackets,
    /// Below which injected calls the frame's own pc counts.
    pub trap_calls: TrapCalls,
    /// The pc by which it is known which arguments are live.
    pub liveness_pc: LivenessPc,
    /// Whether exported methods of exported types of the runtime are shown (1.23+).
    pub exported_methods_shown: bool,
    /// Whether runFinalizers and runCleanups are always shown (1.25+).
    pub finalizers_shown: bool,
    /// How long stacks are cut.
    pub frame_limit: FrameLimit,
    /// Whether `created by` names the goroutine (1.21+).
    pub created_in_goroutine: bool,
    /// Whether headers of level 2 have `gp=`, `m=`, `mp=` (1.22+).
    pub header_gp_m: bool,
    /// Whether `stack unavailable` is printed only when `syscallsp` is 0 (1.26+).
    pub no_stack_text_only_without_syscallsp: bool,
    /// When `(durable)` is in a header.
    pub durable: Durable,
    /// How a header names a synctest bubble.
    pub bubble: BubbleText,
    /// Where labels are in a header.
    pub labels_in_header: LabelsInHeader,
    /// Frames kept of an ancestor goroutine: 100, since 1.21 50.
    pub ancestors_limit: u32,
    /// What `g.labels` points to.
    pub labels_form: LabelsForm,
    /// What a map is, unless the program was built for another form.
    pub map_form: MapForm,
    /// Whether wrappers are shown as creators and in the stacks of ancestors (until 1.20).
    pub wrappers_in_ancestors: bool,
    /// The smallest `m.throwing` that means that the runtime gave up (`throwTypeRuntime`; 1.18 has no
    /// types of it).
    pub throwing_by_runtime: i32,
    /// What the runtime gives the kernel as epoll data.
    pub poll_tag: PollTag,
    /// Whether open-coded defers of a function lie in one array of slots (1.22+).
    pub defer_slots: bool,
    /// Wait reasons that are idle in a synctest bubble (`isIdleInSynctest`).
    pub idle_in_synctest: Vec<u8>,
    semtable_stride: (u64, u64),
    funcs: Vec<(u8, FuncKind)>,
}

impl Rules {
    /// The rules of the chosen release.
    pub fn of(chosen: &Chosen) -> Result<Rules> {
        let reader = Reader(chosen);
        let measured = chosen.table.measured();
        let exact = chosen.own && measured.last().is_some_and(|last| chosen.patch <= *last);
        Ok(Rules {
            by: if exact { Provenance::Builtin } else { Provenance::Nearest },
            status_leaked: reader.get("status_leaked", yes_no)?,
            status_deadextra: reader.get("status_deadextra", yes_no)?,
            brackets: reader.get("brackets", Brackets::read)?,
            trap_calls: reader.get("trap_calls", TrapCalls::read)?,
            liveness_pc: reader.get("liveness_pc", LivenessPc::read)?,
            exported_methods_shown: reader.get("exported_methods_shown", yes_no)?,
            finalizers_shown: reader.get("finalizers_shown", yes_no)?,
            frame_limit: reader.get("frame_limit", FrameLimit::read)?,
            created_in_goroutine: reader.get("created_in_goroutine", yes_no)?,
            header_gp_m: reader.get("header_gp_m", yes_no)?,
            no_stack_text_only_without_syscallsp: reader
                .get("no_stack_text_only_without_syscallsp", yes_no)?,
            durable: reader.get("durable", Durable::read)?,
            bubble: reader.get("bubble", BubbleText::read)?,
            labels_in_header: reader.get("labels_in_header", LabelsInHeader::read)?,
            ancestors_limit: reader.get("ancestors_limit", |v| v.parse().ok())?,
            labels_form: reader.get("labels_form", LabelsForm::read)?,
            map_form: reader.get("map_form", MapForm::read)?,
            wrappers_in_ancestors: reader.get("wrappers_in_ancestors", yes_no)?,
            throwing_by_runtime: reader.get("throwing_by_runtime", |v| v.parse().ok())?,
            poll_tag: reader.get("poll_tag", PollTag::read)?,
            defer_slots: reader.get("defer_slots", yes_no)?,
            idle_in_synctest: reader.get("idle_in_synctest", numbers)?,
            semtable_stride: reader.get("semtable_stride", |v| {
                let (amd64, arm64) = v.split_once(' ')?;
                Some((amd64.parse().ok()?, arm64.parse().ok()?))
            })?,
            funcs: reader.funcs()?,
        })
    }

    /// What the function with this funcID is.
    pub fn func_kind(&self, id: u8) -> FuncKind {
        if id == 0 {
            return FuncKind::Normal;
        }
        let found = self.funcs.iter().find(|(number, _)| *number == id);
        found.map_or(FuncKind::Other, |(_, kind)| *kind)
    }

    /// Bytes from one entry of `runtime.semtable` to the next: a cache line
    /// (`internal/cpu.CacheLinePadSize`).
    pub fn semtable_stride(&self, arch: Arch) -> u64 {
        match arch {
            Arch::Amd64 => self.semtable_stride.0,
            Arch::Arm64 => self.semtable_stride.1,
        }
    }
}

struct Reader<'a>(&'a Chosen);

impl Reader<'_> {
    fn get<T>(&self, name: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let Chosen { table, patch, .. } = self.0;
        table.rule(name, *patch).and_then(read).ok_or_else(|| {
            let text = format!("table of go1.{}: rule {name} is missing or wrong", table.minor);
            Error::new(ErrorKind::Layout, text)
        })
    }

    fn funcs(&self) -> Result<Vec<(u8, FuncKind)>> {
        let Chosen { table, patch, .. } = self.0;
        let kinds = table.funcs(*patch).map(|(number, name)| {
            let known = FUNC_NAMES.iter().find(|(n, _)| *n == name);
            known.map(|(_, kind)| (number, *kind)).ok_or_else(|| {
                let text = format!("table of go1.{}: unknown function {name}", table.minor);
                Error::new(ErrorKind::Layout, text)
            })
        });
        kinds.collect()
    }
}

fn yes_no(word: &str) -> Option<bool> {
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn numbers(text: &str) -> Option<Vec<u8>> {
    text.split(' ').filter(|w| !w.is_empty()).map(|w| w.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::version::GoVersion;

    fn rules(version: &str) -> Rules {
        Rules::of(&Chosen::of(&GoVersion::parse(version)).unwrap()).unwrap()
    }

    #[test]
    fn every_table_has_all_rules() {
        for minor in 18..=27 {
            let rules = rules(&format!("go1.{minor}"));
            assert_eq!(rules.by, Provenance::Builtin);
            assert_eq!(rules.func_kind(0), FuncKind::Normal);
            assert_eq!(rules.func_kind(3), FuncKind::AsyncPreempt);
            assert_eq!(rules.func_kind(99), FuncKind::Other);
        }
        assert_eq!(rules("go1.27.99").by, Provenance::Nearest);
        assert_eq!(rules("go1.28").by, Provenance::Nearest);
    }

    #[test]
    fn rules_change_with_the_release() {
        assert_eq!(rules("go1.20.14").brackets, Brackets::AsIs);
        assert_eq!(rules("go1.21.0").brackets, Brackets::Dots);
        assert_eq!(rules("go1.27.0").brackets, Brackets::KeepMiddle);
        assert_eq!(rules("go1.19.1").semtable_stride(Arch::Arm64), 64);
        assert_eq!(rules("go1.20.1").semtable_stride(Arch::Arm64), 128);
        assert_eq!(rules("go1.21.1").func_kind(21), FuncKind::Wrapper);
        assert_eq!(rules("go1.22.1").func_kind(22), FuncKind::Wrapper);
        assert_eq!(rules("go1.25.1").func_kind(23), FuncKind::Wrapper);
    }
}
