//! Analysis, graph: strongly connected components by Tarjan's method, without recursion: a chain of a
//! hundred thousand goroutines is a path of that length.

/// A node on the way down: which of its edges comes next.
struct Visit {
    node: usize,
    edges: Vec<usize>,
    at: usize,
}

struct Search<F> {
    edges: F,
    /// Order of discovery, from 1; 0 for nodes not met.
    found: Vec<usize>,
    low: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    count: usize,
    components: Vec<Vec<usize>>,
}

/// The components of more than one node of a graph of `nodes` nodes; `edges` says where a node leads.
/// Each is in the order in which its nodes were found.
pub(super) fn components(nodes: usize, edges: impl Fn(usize) -> Vec<usize>) -> Vec<Vec<usize>> {
    let mut search = Search {
        edges,
        found: vec![0; nodes],
        low: vec![0; nodes],
        on_stack: vec![false; nodes],
        stack: Vec::new(),
        count: 0,
        components: Vec::new(),
    };
    for node in 0..nodes {
        if search.found.get(node) == Some(&0) {
            search.from(node);
        }
    }
    search.components
}

impl<F: Fn(usize) -> Vec<usize>> Search<F> {
    fn enter(&mut self, node: usize) -> Visit {
        self.count = self.count.saturating_add(1);
        set(&mut self.found, node, self.count);
        set(&mut self.low, node, self.count);
        set(&mut self.on_stack, node, true);
        self.stack.push(node);
        Visit { node, edges: (self.edges)(node), at: 0 }
    }

    fn from(&mut self, start: usize) {
        let mut way = vec![self.enter(start)];
        while let Some(visit) = way.last_mut() {
            let (node, next) = (visit.node, visit.edges.get(visit.at).copied());
            visit.at = visit.at.saturating_add(1);
            match next {
                Some(next) => match self.found.get(next).copied() {
                    Some(0) => {
                        let visit = self.enter(next);
                        way.push(visit);
                    }
                    Some(found) if self.on_stack.get(next) == Some(&true) => self.lower(node, found),
                    _ => {}
                },
                None => {
                    way.pop();
                    self.leave(node);
                    let low = self.low.get(node).copied().unwrap_or(0);
                    if let Some(parent) = way.last() {
                        self.lower(parent.node, low);
                    }
                }
            }
        }
    }

    fn lower(&mut self, node: usize, to: usize) {
        if let Some(low) = self.low.get_mut(node) {
            *low = (*low).min(to);
        }
    }

    /// Takes a component off the stack if `node` is where it was entered.
    fn leave(&mut self, node: usize) {
        if self.low.get(node) != self.found.get(node) {
            return;
        }
        let start = self.stack.iter().rposition(|n| *n == node).unwrap_or(0);
        let component = self.stack.split_off(start);
        for member in &component {
            set(&mut self.on_stack, *member, false);
        }
        if component.len() > 1 {
            self.components.push(component);
        }
    }
}

fn set<T>(list: &mut [T], at: usize, value: T) {
    if let Some(slot) = list.get_mut(at) {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(mut all: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
        all.iter_mut().for_each(|c| c.sort_unstable());
        all.sort();
        all
    }

    #[test]
    fn a_long_chain_into_a_ring() {
        let n = 200_000;
        let edges = |i: usize| vec![if i + 1 == n { n - 3 } else { i + 1 }];
        assert_eq!(sorted(components(n, edges)), [vec![n - 3, n - 2, n - 1]]);
    }

    proptest! {
        /// Two nodes are in one component exactly when each is reached from the other.
        #[test]
        fn components_are_mutual_reachability(pairs in prop::collection::vec((0usize..9, 0usize..9), 0..24)) {
            let n = 9;
            let mut reach = [[false; 9]; 9];
            for (a, b) in &pairs { reach[*a][*b] = true; }
            for k in 0..n { for i in 0..n { for j in 0..n {
                reach[i][j] |= reach[i][k] && reach[k][j];
            }}}
            let mut expected: Vec<Vec<usize>> = Vec::new();
            for (i, row) in reach.iter().enumerate() {
                let mates: Vec<usize> = (0..n).filter(|j| *j == i || (row[*j] && reach[*j][i])).collect();
                if mates.len() > 1 && mates.first() == Some(&i) { expected.push(mates); }
            }
            let got = components(n, |i| pairs.iter().filter(|(a, _)| *a == i).map(|(_, b)| *b).collect());
            prop_assert_eq!(sorted(got), sorted(expected));
        }
    }
}
