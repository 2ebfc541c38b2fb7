//! Which paths get a profile.

use std::collections::BTreeSet;

use moescope_trace::{LayerRouting, RoutingTrace};

use super::{DOCUMENTS, FEWEST, LAYERS, METHOD, PATHS};
use crate::paths::{Interned, evenly_spaced};
use crate::{AnalysisError, check};

/// The first choices of every token in some layers, and the paths that many tokens walk.
///
/// A path over all layers of a deep model is walked by one token, and nothing can be said of it. So the layers are as many, evenly spaced and
/// five at most, as leave half of the tokens on paths with sixteen tokens from eight documents; two at least. The choice looks at routes alone, so that
/// it cannot favour what is then asked of the paths.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Walks {
    /// Blocks, in order.
    pub(super) layers: Vec<usize>,
    /// First choice of each token: `[layer][token]`.
    pub(super) first: Vec<Vec<u32>>,
    /// The most used paths first; of equals that which the text reaches first.
    pub(super) paths: Vec<Path>,
    /// Number of distinct paths, profiled or not.
    pub(super) distinct: usize,
}

/// Tokens whose first choices agree in all layers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    /// First choice in each layer.
    pub(super) experts: Vec<u32>,
    /// Places in the text, ascending.
    pub(super) tokens: Vec<usize>,
}

impl Path {
    /// Experts in the order of the layers: `3 → 0 → 7`.
    pub(super) fn name(&self) -> String {
        self.experts.iter().map(u32::to_string).collect::<Vec<_>>().join(" → ")
    }
}

impl Walks {
    /// The paths of a trace.
    ///
    /// # Errors
    /// If there are fewer than two routed layers, or no path has tokens enough.
    pub(super) fn of(trace: &RoutingTrace) -> Result<Walks, AnalysisError> {
        let routed = trace.layers();
        check::at_least(METHOD, "routed layers", routed.len(), 2)?;
        let documents = &trace.tokens().documents;
        let of = |count: usize| {
            let drawn: Vec<&LayerRouting> =
                evenly_spaced(routed.len(), count).map(|at| &routed[at]).collect();
            walk(&drawn, documents)
        };
        let covers_half = |walks: &Walks| 2 * walks.covered() >= documents.len();
        let counts = (2..=routed.len().min(LAYERS)).rev();
        let mut walks = counts.map(of).find(covers_half).unwrap_or_else(|| of(2));
        check::at_least(METHOD, "paths with 16 tokens from 8 documents", walks.paths.len(), 1)?;
        walks.paths.truncate(PATHS);
        Ok(walks)
    }

    /// Tokens on the paths that have enough of them.
    fn covered(&self) -> usize {
        self.paths.iter().map(|path| path.tokens.len()).sum()
    }

    /// Profiled path of each of so many tokens; the number of paths where it has none.
    pub(super) fn path_of(&self, tokens: usize) -> Vec<u32> {
        let mut of = vec![self.paths.len() as u32; tokens];
        for (path, number) in self.paths.iter().zip(0..) {
            path.tokens.iter().for_each(|token| of[*token] = number);
        }
        of
    }
}

/// All paths through these layers that have tokens enough.
///
/// Tokens are gathered by the number of their path, which is that of its first appearance, so that the order of experts and their names decide
/// nothing. Eight documents are asked for beside sixteen tokens, because everything that is then said of a path compares documents.
fn walk(layers: &[&LayerRouting], documents: &[u32]) -> Walks {
    let stops: Vec<Interned> = layers.iter().map(|layer| Interned::first_choices(layer)).collect();
    let walked = Interned::sequence(&stops, documents.len());
    let first: Vec<Vec<u32>> =
        layers.iter().map(|layer| layer.choices.iter().step_by(layer.per_token).copied().collect()).collect();
    let mut tokens = vec![Vec::new(); walked.distinct];
    walked.ids.iter().enumerate().for_each(|(token, path)| tokens[*path as usize].push(token));
    let enough = |tokens: &Vec<usize>| {
        let of = || tokens.iter().map(|token| documents[*token]).collect::<BTreeSet<u32>>();
        tokens.len() >= FEWEST && of().len() >= DOCUMENTS
    };
    let path = |tokens: Vec<usize>| Path { experts: first.iter().map(|of| of[tokens[0]]).collect(), tokens };
    let mut paths: Vec<Path> = tokens.into_iter().filter(enough).map(path).collect();
    paths.sort_by_key(|path| (std::cmp::Reverse(path.tokens.len()), path.tokens[0]));
    Walks {
        layers: layers.iter().map(|layer| layer.layer).collect(),
        first,
        paths,
        distinct: walked.distinct,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;

    /// Twenty documents of twenty tokens, through layers that all choose by these rules.
    fn walks(rules: &[fn(usize) -> u32]) -> Result<Walks, AnalysisError> {
        let documents: Vec<u32> = (0..400).map(|token| token / 20).collect();
        let text = planted::tokens(vec![0; 400], vec![0; 400], documents);
        let routes = rules.iter().map(|rule| (0..400).map(rule).collect()).collect();
        Walks::of(&planted::trace(text, 400, 1, routes))
    }

    #[test]
    fn paths_by_hand() {
        let found = walks(&[|token| (token % 4) as u32, |token| (token % 20 / 10) as u32]).unwrap();
        assert_eq!((found.layers.clone(), found.distinct, found.paths.len()), (vec![0, 1], 8, 8));
        // Tokens 0, 4 and 8 of each document, and tokens 1, 5 and 9.
        assert_eq!((found.paths[0].name(), found.paths[0].tokens.len()), ("0 → 0".into(), 60));
        assert_eq!((found.paths[1].name(), &found.paths[1].tokens[..3]), ("1 → 0".into(), &[1, 5, 9][..]));
        assert_eq!(found.paths.iter().map(|path| path.tokens.len()).sum::<usize>(), 400);
        // The third and fourth of the first half come after two longer paths of the second.
        assert_eq!(found.path_of(400)[..5], [0, 1, 4, 5, 0]);
    }

    #[test]
    fn layers_are_left_out_where_paths_would_be_walked_once() {
        let alike = |token: usize| (token % 2) as u32;
        let apart = |token: usize| token as u32;
        // With all five layers every token is alone; with the first, the middle and the last it is not.
        let found = walks(&[alike, apart, alike, apart, alike]).unwrap();
        assert_eq!((found.layers, found.paths.len()), (vec![0, 2, 4], 2));
        assert!(walks(&[apart, apart]).unwrap_err().to_string().contains("16 tokens from 8 documents"));
        assert!(walks(&[alike]).unwrap_err().to_string().contains("routed layers"));
    }
}
