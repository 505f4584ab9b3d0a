//! Medians, as a table.

use crate::tools::Figures;

/// The middle one.
pub fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

pub fn head() {
    println!("| state | tool | runs | pause ms | / floor | ticker's gap ms | wall s | CPU s | RSS MB |");
    println!("|---|---|---|---|---|---|---|---|---|");
}

/// One row; `floor` is the median pause of the floor.
pub fn row(state: &str, tool: &str, runs: &[Figures], floor: Option<u64>) {
    let of = |figure: fn(&Figures) -> Option<u64>| median(runs.iter().filter_map(figure).collect());
    let cell = |value: Option<u64>, unit: f64, digits: usize| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{:.digits$}", value as f64 / unit))
    };
    let pause = of(|f| f.pause);
    let ratio = pause.zip(floor).map(|(pause, floor)| pause as f64 / floor.max(1) as f64);
    println!(
        "| {state} | {tool} | {} | {} | {} | {} | {} | {} | {} |",
        runs.len(),
        cell(pause, 1e6, 2),
        ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.4}")),
        cell(of(|f| f.gap), 1e6, 1),
        cell(of(|f| f.wall), 1e9, 2),
        cell(of(|f| f.cpu), 1e9, 2),
        cell(of(|f| f.rss), 1e6, 0),
    );
}
