//! Where tokens go from layer to layer, as streams between the experts that are chosen first.
//!
//! A stream that is wider than its share under independence says that the tokens of one expert go on to
//! another more often than the loads of the two layers alone would have it. It does not say why: two routers
//! that read the same feature of a token agree without either knowing of the other.
//!
//! A small example: four tokens choose the experts 0, 0, 0 and 2 in one layer, and 1, 1, 2 and 2 in the next.
//! The stream from 0 to 1 has a share of 2/4; independent layers would give it 3/4 · 2/4 = 0.375. Who knows
//! the present expert and always names its most frequent successor is right for two tokens of expert 0 and
//! for the one of expert 2, so that `followed` is 0.75.

use moescope_base::{Column, Figure, FigureKind, Table};
use moescope_trace::{LayerRouting, RoutingTrace};

use crate::AnalysisError;
use crate::routing::{NullComparison, Permutations};
use crate::shuffled::Shuffled;
use crate::statistics::Tail;

/// Layers that are drawn, at most.
const STAGES: usize = 5;
/// Experts of a layer that have a stream of their own where there are more.
const NAMED: usize = 7;

/// Streams of tokens between the first choices of some layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Flows {
    /// Blocks that are drawn, evenly spaced over the routed ones.
    pub layers: Vec<usize>,
    /// From layer to layer, in the order of the layers, then of the experts that tokens leave and reach, the most used first.
    pub streams: Vec<FlowStream>,
    /// Share of the tokens that choose an expert without a name in some drawn layer, from 0 to 1: what the picture hides.
    pub hidden: f64,
    /// Share of the tokens whose next drawn expert is the most frequent one after their expert, mean over neighbouring drawn layers;
    /// null: first choices of the next layer exchanged between tokens, loads kept.
    pub followed: NullComparison,
    /// Tokens.
    pub tokens: usize,
}

/// Tokens that choose one expert first, and another in the next drawn layer.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowStream {
    /// Place in [`Flows::layers`] of the layer that they leave.
    pub stage: usize,
    /// Expert there; none for all without a name.
    pub from: Option<usize>,
    /// Expert in the next drawn layer; none for all without a name.
    pub to: Option<usize>,
    /// Share of all tokens.
    pub share: f64,
    /// The same if the two layers chose independently.
    pub independent: f64,
}

/// Counts the streams; none with fewer than two routed layers.
///
/// - **Does not show:** any but the first choice of a token, nor what lies between the layers that are drawn.
/// - **Null:** of `followed`, a shuffle; of each stream, the product of the shares that leave and reach.
///
/// # Errors
/// If no permutation is asked for.
pub fn flows(trace: &RoutingTrace, permutations: Permutations) -> Result<Option<Flows>, AnalysisError> {
    permutations.check("flows")?;
    let tokens = trace.tokens().len();
    if trace.layers().len() < 2 || tokens == 0 {
        return Ok(None);
    }
    let drawn = evenly_spaced(trace.layers().len(), STAGES);
    let layers: Vec<Stage> = drawn.map(|at| Stage::of(&trace.layers()[at])).collect();
    let mut streams = Vec::new();
    for (stage, pair) in layers.windows(2).enumerate() {
        streams.extend(between(stage, &pair[0], &pair[1]));
    }
    let hides = |token: &usize| layers.iter().any(|stage| stage.place_of(stage.first[*token]).is_none());
    Ok(Some(Flows {
        layers: layers.iter().map(|stage| stage.layer).collect(),
        streams,
        hidden: (0..tokens).filter(hides).count() as f64 / tokens as f64,
        followed: followed(&layers, permutations),
        tokens,
    }))
}

/// Places of at most so many, but at least two, among two or more routed layers: evenly spaced, the first and the last among them.
///
/// Of 24 routed layers five are those at the places 0, 5, 11, 17 and 23; of five or fewer layers they are all.
pub(crate) fn evenly_spaced(layers: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = layers.min(most.max(2));
    (0..count).map(move |stage| stage * (layers - 1) / (count - 1))
}

/// A drawn layer.
struct Stage {
    layer: usize,
    experts: usize,
    /// First choice of each token.
    first: Vec<u32>,
    /// Experts with a name, the most used first.
    named: Vec<usize>,
    /// Share of tokens that choose each expert first.
    shares: Vec<f64>,
}

impl Stage {
    /// Counts the first choices of a layer and names the most used experts, of equally used ones the lower
    /// number first. An expert that no token chooses first has no name, and no stream.
    fn of(routing: &LayerRouting) -> Stage {
        let first: Vec<u32> = routing.choices.iter().step_by(routing.per_token).copied().collect();
        let mut counts = vec![0usize; routing.experts];
        first.iter().for_each(|expert| counts[*expert as usize] += 1);
        let mut named: Vec<usize> = (0..routing.experts).filter(|expert| counts[*expert] > 0).collect();
        named.sort_by_key(|expert| std::cmp::Reverse(counts[*expert]));
        // One expert without a name would be a stream like any other.
        if named.len() > NAMED + 1 {
            named.truncate(NAMED);
        }
        let shares = counts.iter().map(|count| *count as f64 / first.len() as f64).collect();
        Stage { layer: routing.layer, experts: routing.experts, first, named, shares }
    }

    /// Place of an expert among those with a name, 0 for the most used one; none for all others.
    fn place_of(&self, expert: u32) -> Option<usize> {
        self.named.iter().position(|named| *named == expert as usize)
    }

    /// Share of tokens of the expert at a place, or of all without a name past the last.
    fn share(&self, place: usize) -> f64 {
        match self.named.get(place) {
            Some(expert) => self.shares[*expert],
            None => 1.0 - self.named.iter().map(|expert| self.shares[*expert]).sum::<f64>(),
        }
    }
}

/// All streams between two drawn layers that some token takes.
///
/// A cell of the counts is `counts[place here, place there]`, with one place more on each side for the
/// experts without a name. Empty cells are left out, so that the shares of what is returned add up to 1.
fn between(stage: usize, here: &Stage, there: &Stage) -> Vec<FlowStream> {
    let (from, to) = (here.named.len() + 1, there.named.len() + 1);
    let mut counts = vec![0usize; from * to];
    for (a, b) in here.first.iter().zip(&there.first) {
        let (a, b) = (here.place_of(*a).unwrap_or(from - 1), there.place_of(*b).unwrap_or(to - 1));
        counts[a * to + b] += 1;
    }
    let taken = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
    let stream = |(cell, count): (usize, usize)| FlowStream {
        stage,
        from: here.named.get(cell / to).copied(),
        to: there.named.get(cell % to).copied(),
        share: count as f64 / here.first.len() as f64,
        independent: here.share(cell / to) * there.share(cell % to),
    };
    taken.map(stream).collect()
}

/// How many tokens a guess of the next expert from the present one gets right, beside shuffled layers.
///
/// Each pair of neighbouring drawn layers is shuffled by itself: the tokens of the second exchange their
/// experts, which keeps the loads of both layers and removes what joins them. The p-value counts shuffles
/// that reach the observed mean or exceed it.
fn followed(layers: &[Stage], permutations: Permutations) -> NullComparison {
    let mean = |of: &mut dyn FnMut(usize) -> f64| {
        (0..layers.len() - 1).map(of).sum::<f64>() / (layers.len() - 1) as f64
    };
    let observed = mean(&mut |at| guessed(&layers[at], &layers[at + 1].first, layers[at + 1].experts));
    let draws = permutations.draw(Shuffled::default, |shuffled, rng| {
        mean(&mut |at| {
            shuffled.fill(&layers[at + 1].first, rng);
            guessed(&layers[at], shuffled.items(), layers[at + 1].experts)
        })
    });
    NullComparison::new(observed, &draws, Tail::Greater)
}

/// Share of tokens whose next expert is the most frequent one after theirs.
///
/// The guess is made and judged on the same tokens, so it is too good by chance, the more so the fewer tokens
/// there are for each pair of experts. It is never below the share of the most used next expert either. Both
/// hold for shuffled layers as well, for which reason the comparison is with these, and neither with 0 nor
/// with one over the number of experts.
fn guessed(here: &Stage, next: &[u32], experts: usize) -> f64 {
    let mut counts = vec![0u32; here.experts * experts];
    for (a, b) in here.first.iter().zip(next) {
        counts[*a as usize * experts + *b as usize] += 1;
    }
    let right: u32 = counts.chunks_exact(experts).filter_map(|row| row.iter().max()).sum();
    f64::from(right) / next.len() as f64
}

impl Flows {
    /// One row for each stream.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let each = |f: &dyn Fn(&FlowStream) -> f64| self.streams.iter().map(f).collect::<Vec<f64>>();
        let layer = |ahead: usize| {
            self.streams.iter().map(|stream| format!("layer {}", self.layers[stream.stage + ahead])).collect()
        };
        let name = |of: fn(&FlowStream) -> Option<usize>| {
            let named = |stream| of(stream).map_or("others".to_owned(), |expert| format!("expert {expert}"));
            self.streams.iter().map(named).collect()
        };
        let columns = vec![
            Column::key("layer", "block that tokens leave", layer(0)),
            Column::key("expert", "first choice there", name(|stream| stream.from)),
            Column::key("next_layer", "next block that is drawn", layer(1)),
            Column::key("next_expert", "first choice there", name(|stream| stream.to)),
            Column::estimate("share", "share of tokens", "tokens that choose both first", each(&|s| s.share)),
            Column::null(
                "share",
                "share of tokens",
                "product of the shares that leave and reach",
                each(&|s| s.independent),
            ),
            Column::observations("share", "tokens", vec![self.tokens as i64; self.streams.len()]),
        ];
        let method = "First choices alone, in at most five routed layers evenly spaced; in each the seven experts that are most \
                      often chosen first, all others together.";
        Ok(Table::new("paths_flows", "Where tokens go from layer to layer", method, columns)?)
    }

    /// The alluvial diagram.
    pub fn figure(&self) -> Figure {
        let NullComparison { observed, null_mean, p_value, .. } = self.followed;
        let title = format!(
            "The expert of one drawn layer tells that of the next for {:.0} % of the tokens, {:.0} % where layers are shuffled (p = {p_value:.2})",
            100.0 * observed,
            100.0 * null_mean,
        );
        let caption = format!(
            "Each stream is as wide as the share of tokens that choose both experts first, in the colour of the expert that they leave; point at \
             one for its share and for that of layers that choose independently. {:.0} % of the tokens pass an expert without a name of its own \
             (others, grey) in some drawn layer.",
            100.0 * self.hidden
        );
        let kind = FigureKind::Flows {
            stage: "layer".into(),
            from: "expert".into(),
            next_stage: "next_layer".into(),
            to: "next_expert".into(),
            value: "share".into(),
        };
        Figure { id: "paths_flows".into(), title, caption, table: "paths_flows".into(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;

    fn run(experts: usize, routes: Vec<Vec<u32>>) -> Flows {
        let tokens = routes[0].len();
        let text = planted::tokens(vec![0; tokens], vec![0; tokens], vec![0; tokens]);
        flows(&planted::trace(text, experts, 1, routes), Permutations::new(99, Seed(1))).unwrap().unwrap()
    }

    #[test]
    fn streams_by_hand() {
        let found = run(3, vec![vec![0, 0, 0, 2], vec![1, 1, 2, 2]]);
        let streams: Vec<_> = found.streams.iter().map(|s| (s.from, s.to, s.share, s.independent)).collect();
        let wanted = [
            (Some(0), Some(1), 0.5, 0.375),
            (Some(0), Some(2), 0.25, 0.375),
            (Some(2), Some(2), 0.25, 0.125),
        ];
        assert_eq!(streams, wanted);
        assert_eq!((found.hidden, found.followed.observed), (0.0, 0.75));
        assert_eq!(found.table().unwrap().rows(), 3);
    }

    #[test]
    fn experts_without_a_name_are_told_as_hidden() {
        // Twenty experts, each chosen once, the first seven twice.
        let route: Vec<u32> = (0..20).chain(0..7).collect();
        let found = run(20, vec![route.clone(), route]);
        assert!((found.hidden - 13.0 / 27.0).abs() < 1e-12);
        let together = found.streams.iter().find(|s| s.from.is_none()).unwrap();
        assert_eq!((together.to, together.share), (None, 13.0 / 27.0));
        assert!((together.independent - (13.0f64 / 27.0).powi(2)).abs() < 1e-12);
    }

    #[test]
    fn drawn_layers_are_evenly_spaced() {
        assert_eq!(evenly_spaced(2, 5).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(evenly_spaced(5, 5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(evenly_spaced(24, 5).collect::<Vec<_>>(), [0, 5, 11, 17, 23]);
        let text = planted::tokens(vec![0; 2], vec![0; 2], vec![0; 2]);
        let one = planted::trace(text, 2, 1, vec![vec![0, 1]]);
        assert!(flows(&one, Permutations::new(9, Seed(1))).unwrap().is_none());
    }

    #[test]
    fn layers_that_follow_are_found_and_independent_ones_are_not() {
        let mut rng = Seed(2).rng();
        let first = planted::random_sets(600, 6, 1, |_| 1.0, &mut rng);
        let follows = first.iter().map(|expert| (expert + 1) % 6).collect();
        assert!(run(6, vec![first, follows]).followed.p_value <= 0.01);
        let alarms = (0..200).filter(|seed| {
            let mut rng = Seed(*seed).rng();
            let mut draw = || planted::random_sets(60, 4, 1, |_| 1.0, &mut rng);
            let routes = vec![draw(), draw()];
            run(4, routes).followed.p_value <= 0.05
        });
        // Binomial with 200 draws of 0.05: above 18 in less than one of a hundred.
        assert!(alarms.count() <= 18);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn names_of_experts_and_order_of_tokens_are_immaterial(seed in 0u64..1_000) {
            let mut rng = Seed(seed).rng();
            let text = planted::text(3, 9, 5, &mut rng);
            let routes = (0..3).map(|_| planted::random_sets(27, 5, 2, |_| 1.0, &mut rng)).collect();
            let trace = planted::trace(text, 5, 2, routes);
            let told = |trace: &RoutingTrace| {
                let found = flows(trace, Permutations::new(1, Seed(1))).unwrap().unwrap();
                let mut shares: Vec<f64> = found.streams.iter().map(|s| s.share).collect();
                shares.sort_by(f64::total_cmp);
                (shares, found.hidden, found.followed.observed)
            };
            prop_assert_eq!(told(&trace), told(&planted::renamed(&trace, seed)));
            prop_assert_eq!(told(&trace), told(&planted::reordered(&trace, seed)));
        }
    }
}
