//! A large executable: how long until the first output, when the file is in the page cache.

use crate::Outcome;
use crate::table::median;
use crate::target::{RELEASE, Target};
use crate::tools::run;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages and functions in each: about 100 MB with DWARF.
const PACKAGES: usize = 60;
const FUNCTIONS: usize = 500;

const RUNS: usize = 5;

/// Builds the program, starts it, looks at it.
pub fn large(release: &Path) -> Outcome<()> {
    let program = build()?;
    let size = fs::metadata(&program)?.len();
    let target = Target::start(&program, &[])?;
    let looks =
        (0..=RUNS).map(|_| run(&release.join("allgs"), &["list".to_owned(), target.pid().to_string()]));
    let looks: Vec<_> = looks.collect::<Outcome<_>>()?;
    // The first fills the page cache.
    let warm = looks.get(1..).unwrap_or_default();
    let of = |figure: &dyn Fn(&crate::tools::Figures) -> Option<u64>| {
        median(warm.iter().filter_map(figure).collect()).unwrap_or(0) as f64
    };
    println!("\n| executable MB | goroutines | wall s, warm | CPU s | RSS MB |\n|---|---|---|---|---|");
    println!(
        "| {} | 100 | {:.3} | {:.3} | {:.0} |",
        size / 1_000_000,
        of(&|f| f.wall) / 1e9,
        of(&|f| f.cpu) / 1e9,
        of(&|f| f.rss) / 1e6
    );
    Ok(())
}

/// Writes and builds it once.
fn build() -> Outcome<PathBuf> {
    let cache = std::env::var("ALLGS_CACHE").unwrap_or_else(|_| ".cache".to_owned());
    let dir = Path::new(&cache).join("large");
    let program = dir.join(format!("large-{PACKAGES}-{FUNCTIONS}"));
    if program.is_file() {
        return Ok(program.canonicalize()?);
    }
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("go.mod"), "module example.com/large\n\ngo 1.21\n")?;
    let mut imports = String::new();
    let mut calls = String::new();
    for package in 0..PACKAGES {
        let at = dir.join(format!("p{package}"));
        fs::create_dir_all(&at)?;
        fs::write(at.join("p.go"), source(package)?)?;
        writeln!(imports, "\t\"example.com/large/p{package}\"")?;
        writeln!(calls, "\tall = append(all, p{package}.All...)")?;
    }
    fs::write(dir.join("main.go"), MAIN.replace("IMPORTS", &imports).replace("CALLS", &calls))?;
    let mut go = Command::new("go");
    go.args(["build", "-ldflags=-compressdwarf=false", "-o"]).arg(program.file_name().ok_or("no name")?);
    go.arg(".").current_dir(&dir).env("GOTOOLCHAIN", format!("go{RELEASE}"));
    if !go.env("GOFLAGS", "-mod=mod").env("GOWORK", "off").status()?.success() {
        return Err("the large program could not be built".into());
    }
    Ok(program.canonicalize()?)
}

const MAIN: &str = "package main

import (
	\"bufio\"
	\"fmt\"
	\"os\"
IMPORTS)

func main() {
	var all []func(int) string
CALLS	for i := 0; i < 100; i++ {
		go wait(all[i*len(all)/100])
	}
	fmt.Printf(\"READY %d\\n\", os.Getpid())
	bufio.NewReader(os.Stdin).ReadString('\\n')
}

func wait(f func(int) string) {
	f(3)
	select {}
}
";

/// Functions that differ enough not to be one.
fn source(package: usize) -> Outcome<String> {
    let mut text = format!("package p{package}\n\nimport \"fmt\"\n\nvar All []func(int) string\n\n");
    text += "func init() {\n";
    for n in 0..FUNCTIONS {
        writeln!(text, "\tAll = append(All, work{n})")?;
    }
    text += "}\n";
    for n in 0..FUNCTIONS {
        write!(
            text,
            "
type record{n} struct {{ name string; count, sum int; parts []int; next *record{n} }}

func work{n}(depth int) string {{
	r := &record{n}{{name: \"p{package}.{n}\", count: {n}}}
	for i := 0; i < depth; i++ {{
		part := i*{n} + {package}
		r.parts = append(r.parts, part)
		r.sum += part
		if part%{divisor} == 0 {{
			last := *r
			r.next = &last
		}}
	}}
	switch r.sum % 3 {{
	case 0:
		return fmt.Sprintf(\"%s %d of %d\", r.name, r.sum, r.count)
	case 1:
		return fmt.Sprint(r.parts, r.next)
	}}
	return fmt.Sprintln(r.name, len(r.parts))
}}
",
            divisor = n + 2
        )?;
    }
    Ok(text)
}
