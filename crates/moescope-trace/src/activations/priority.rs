//! Which tokens a sample has.

use super::run::{CorpusWindow, DocumentLabel};
use std::collections::BinaryHeap;

/// The rank of a token in the draw: its hash, and where it stands, for the case that two hashes agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    pub(super) hash: u64,
    pub(super) document: u32,
    pub(super) position: u32,
}

/// The keys of all documents for one seed.
///
/// A document is known by the names of its domain and of itself, so that its tokens draw the same lots in whatever corpus it stands.
pub(super) struct Lots {
    keys: Vec<[u8; 32]>,
}

impl Lots {
    pub(super) fn new(seed: u64, documents: &[DocumentLabel]) -> Lots {
        let key = |document: &DocumentLabel| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&seed.to_le_bytes());
            for name in [&document.domain, &document.name] {
                hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            }
            *hasher.finalize().as_bytes()
        };
        Lots { keys: documents.iter().map(key).collect() }
    }

    /// The lot of one token.
    pub(super) fn of(&self, document: u32, position: u32) -> Priority {
        let hash = blake3::keyed_hash(&self.keys[document as usize], &position.to_le_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        Priority { hash: u64::from_le_bytes([a, b, c, d, e, f, g, h]), document, position }
    }

    /// The positions in each window of the `rows` tokens with the smallest lots, ascending: `[window][token]`.
    pub(super) fn drawn(&self, windows: &[CorpusWindow], rows: usize) -> Vec<Vec<u32>> {
        let mut kept: BinaryHeap<(Priority, usize)> = BinaryHeap::new();
        for (index, window) in windows.iter().enumerate() {
            for offset in 0..window.ids.len() as u32 {
                let lot = (self.of(window.document, window.start + offset), index);
                if kept.len() < rows {
                    kept.push(lot);
                } else if kept.peek().is_some_and(|largest| lot < *largest) {
                    kept.pop();
                    kept.push(lot);
                }
            }
        }
        let mut drawn = vec![Vec::new(); windows.len()];
        for (lot, index) in kept {
            drawn[index].push(lot.position - windows[index].start);
        }
        drawn.iter_mut().for_each(|positions: &mut Vec<u32>| positions.sort_unstable());
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(count: usize) -> Vec<DocumentLabel> {
        (0..count).map(|i| DocumentLabel { domain: "d".into(), name: format!("{i}.txt") }).collect()
    }

    fn windows(documents: u32, length: u32, positions: u32) -> Vec<CorpusWindow> {
        let window = |document, start| CorpusWindow { document, start, ids: vec![7; positions as usize] };
        (0..documents).flat_map(|d| (0..length / positions).map(move |w| window(d, w * positions))).collect()
    }

    #[test]
    fn every_position_is_drawn_equally_often_over_seeds() {
        // 40 tokens, 10 drawn, 2,000 seeds: 500 each. Under the null chi-square over 39 degrees, times 3/4 for the draw without
        // replacement, is below 73 / (4/3) but once in a thousand.
        let (documents, windows) = (documents(5), windows(5, 8, 4));
        let mut counts = [0_u32; 40];
        for seed in 0..2000 {
            for (window, drawn) in Lots::new(seed, &documents).drawn(&windows, 10).iter().enumerate() {
                drawn.iter().for_each(|position| counts[window * 4 + *position as usize] += 1);
            }
        }
        assert_eq!(counts.iter().sum::<u32>(), 20_000);
        let square = counts.iter().map(|count| (f64::from(*count) - 500.0).powi(2) / 500.0).sum::<f64>();
        assert!(square < 0.75 * 73.0, "{square}");
        // A planted leaning of a tenth towards half of the tokens would be seen.
        let leaning: f64 = (0..40).map(|t| (if t % 2 == 0 { 50.0_f64 } else { -50.0 }).powi(2) / 500.0).sum();
        assert!(leaning > 0.75 * 73.0);
    }

    #[test]
    fn pairs_are_drawn_together_as_often_as_chance_has_it() {
        // Two given tokens of 40, 10 drawn: 10/40 * 9/39 of the seeds.
        let (documents, windows) = (documents(5), windows(5, 8, 4));
        let seeds = 4000;
        let both = |seed: u64| {
            let drawn = Lots::new(seed, &documents).drawn(&windows, 10);
            drawn[0].contains(&0) && drawn[0].contains(&1)
        };
        let found = (0..seeds).filter(|seed| both(*seed)).count() as f64 / seeds as f64;
        let wanted = 10.0 / 40.0 * 9.0 / 39.0;
        assert!((found - wanted).abs() < 4.0 * (wanted * (1.0 - wanted) / seeds as f64).sqrt(), "{found}");
    }

    #[test]
    fn the_draw_depends_on_the_document_alone_and_so_merges() {
        let (documents, all) = (documents(6), windows(6, 8, 4));
        let lots = Lots::new(3, &documents);
        let names = |windows: &[CorpusWindow], drawn: &[Vec<u32>]| {
            let name = |(window, drawn): (&CorpusWindow, &Vec<u32>)| {
                let (document, start) = (window.document, window.start);
                drawn.iter().map(move |position| lots_name(document, start + position)).collect::<Vec<_>>()
            };
            let mut names: Vec<(u32, u32)> = windows.iter().zip(drawn).flat_map(name).collect();
            names.sort_unstable();
            names
        };
        let whole = names(&all, &lots.drawn(&all, 9));
        let mut backwards = all.clone();
        backwards.reverse();
        assert_eq!(whole, names(&backwards, &lots.drawn(&backwards, 9)));
        // The smallest nine of both halves' nine are the smallest nine.
        let (one, two) = all.split_at(6);
        let mut merged = [names(one, &lots.drawn(one, 9)), names(two, &lots.drawn(two, 9))].concat();
        merged.sort_by_key(|(document, position)| lots.of(*document, *position));
        merged.truncate(9);
        merged.sort_unstable();
        assert_eq!(whole, merged);
        assert_ne!(whole, names(&all, &Lots::new(4, &documents).drawn(&all, 9)));
    }

    fn lots_name(document: u32, position: u32) -> (u32, u32) {
        (document, position)
    }

    #[test]
    fn more_rows_than_tokens_are_all_tokens() {
        let drawn = Lots::new(1, &documents(2)).drawn(&windows(2, 4, 4), 100);
        assert_eq!(drawn, vec![vec![0, 1, 2, 3]; 2]);
    }
}
