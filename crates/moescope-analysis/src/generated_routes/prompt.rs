//! Whether the routes of a prompt foretell those of what is generated after it.
//!
//! Who keeps few experts in fast memory would like to choose them while the prompt is read. That serves the answer if it goes to the experts of its
//! own prompt more than to those of any prompt; all prompts load the popular experts, which foretells nothing of this one.

use std::collections::BTreeMap;

use moescope_base::{Column, Figure, FigureKind, Table};
use rand::seq::SliceRandom;

use super::METHOD;
use super::generate::{Layers, Spoken};
use crate::domain_shift::total_variation;
use crate::routing::{NullComparison, Permutations, comparison_columns};
use crate::statistics::{Bootstrap, Resampling, Tail, bootstrap, holm};
use crate::tabulate::bootstrap_columns;
use crate::wording::counted;
use crate::{AnalysisError, check};

/// One routed layer: experts of prompts beside those of what follows them.
///
/// - **Unit and range:** shares from 0 to 1.
/// - **Null:** of `nearness`, what was generated dealt out to the prompts of other documents.
/// - **Does not show:** what longer prompts or longer answers would do: the share of experts that either touches grows with its length.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Foretold {
    layer: usize,
    /// Share of the layer's experts that a prompt touches, mean over documents.
    prompt: Bootstrap,
    /// Share of the layer's experts that the tokens generated after it touch.
    generated: Bootstrap,
    /// Share of the slots of generated tokens whose expert the prompt has touched: what a cache filled by the prompt would serve.
    covered: Bootstrap,
    /// One minus the total variation between the loads of a prompt and of what follows it, mean over documents.
    nearness: NullComparison,
}

/// Slots of each expert in the prompt of one document and in what was generated after it.
struct Loads {
    prompt: Vec<f64>,
    generated: Vec<f64>,
}

/// Compares prompts with what follows, in every layer.
///
/// # Errors
/// With too few documents.
pub(super) fn foretold(
    spoken: &[Spoken],
    layers: &Layers,
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Vec<Foretold>, AnalysisError> {
    permutations.check(METHOD)?;
    layers
        .iter()
        .map(|(layer, experts, _)| one_layer(spoken, *layer, *experts, permutations, resampling))
        .collect()
}

fn one_layer(
    spoken: &[Spoken],
    layer: usize,
    experts: usize,
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Foretold, AnalysisError> {
    let documents = by_document(spoken, layer, experts);
    check::documents(METHOD, documents.len())?;
    let over = |of: &dyn Fn(&Loads) -> f64| {
        let values: Vec<f64> = documents.iter().map(of).collect();
        let mean = |drawn: &[usize]| drawn.iter().map(|at| values[*at]).sum::<f64>() / drawn.len() as f64;
        bootstrap(documents.len(), mean, resampling)
    };
    let touched = |loads: &[f64]| loads.iter().filter(|load| **load > 0.0).count() as f64 / experts as f64;
    let nearness = |order: &[usize]| {
        let one = |(document, of): (&Loads, &usize)| near(&document.prompt, &documents[*of].generated);
        documents.iter().zip(order).map(one).sum::<f64>() / documents.len() as f64
    };
    let own: Vec<usize> = (0..documents.len()).collect();
    let draws = permutations.child("prompts").index(layer).draw(
        || own.clone(),
        |order: &mut Vec<usize>, rng| {
            order.clone_from(&own);
            order.shuffle(rng);
            nearness(order)
        },
    );
    Ok(Foretold {
        layer,
        prompt: over(&|loads| touched(&loads.prompt))?,
        generated: over(&|loads| touched(&loads.generated))?,
        covered: over(&covered)?,
        nearness: NullComparison::new(nearness(&own), &draws, Tail::Greater),
    })
}

fn by_document(spoken: &[Spoken], layer: usize, experts: usize) -> Vec<Loads> {
    let mut documents: BTreeMap<u32, Loads> = BTreeMap::new();
    for one in spoken {
        let empty = || Loads { prompt: vec![0.0; experts], generated: vec![0.0; experts] };
        let loads = documents.entry(one.document).or_insert_with(empty);
        one.prompt[&layer].iter().for_each(|expert| loads.prompt[*expert as usize] += 1.0);
        one.layers[&layer][1].sets.iter().for_each(|expert| loads.generated[*expert as usize] += 1.0);
    }
    documents.into_values().collect()
}

/// Share of generated slots whose expert the prompt has touched.
///
/// Of a prompt that touches all experts it is 1, whatever follows: read it beside the share of experts that prompts touch.
fn covered(loads: &Loads) -> f64 {
    let seen = loads.generated.iter().zip(&loads.prompt).filter(|(_, prompt)| **prompt > 0.0);
    seen.map(|(generated, _)| generated).sum::<f64>() / loads.generated.iter().sum::<f64>()
}

/// One minus the total variation between two loads, each as shares: 1 where both load alike, 0 where they have no expert in common.
///
/// Finite counts differ by chance, so that it stays below 1 even where both are drawn from one law; what other prompts have is beside it.
fn near(prompt: &[f64], generated: &[f64]) -> f64 {
    let share = |loads: &[f64]| {
        let all = loads.iter().sum::<f64>();
        loads.iter().map(|load| load / all).collect::<Vec<f64>>()
    };
    1.0 - total_variation(&share(prompt), &share(generated))
}

/// One row for each layer.
///
/// # Errors
/// If the columns make no table.
pub(super) fn table(found: &[Foretold]) -> Result<Table, AnalysisError> {
    let values = |of: fn(&Foretold) -> Bootstrap| found.iter().map(of).collect::<Vec<Bootstrap>>();
    let layers = found.iter().map(|row| row.layer as i64).collect();
    let mut columns = vec![Column::integer_key("layer", "", "block, counted from 0", layers)];
    let touched = "share of experts";
    columns.extend(bootstrap_columns("prompt", touched, "that a prompt touches", &values(|row| row.prompt)));
    let meaning = "that the tokens generated after it touch";
    columns.extend(bootstrap_columns("generated", touched, meaning, &values(|row| row.generated)));
    let meaning = "generated slots whose expert the prompt has touched";
    columns.extend(bootstrap_columns("covered", "share of slots", meaning, &values(|row| row.covered)));
    let nearness: Vec<NullComparison> = found.iter().map(|row| row.nearness).collect();
    columns.extend(comparison_columns(
        "nearness",
        "share of slots",
        "that a prompt and what follows it load alike",
        "generated tokens dealt out to the prompts of other documents",
        &nearness,
    ));
    let method = "The first half of each sequence against up to 24 tokens that the model goes on with. What either touches grows with its length.";
    Ok(Table::new(
        "prompt_and_answer",
        "Experts of prompts and of what is generated after them",
        method,
        columns,
    )?)
}

/// What a prompt foretells, beside the prompts of other documents.
pub(super) fn figure(found: &[Foretold]) -> Figure {
    let p: Vec<f64> = found.iter().map(|row| row.nearness.p_value).collect();
    let told = holm(&p).into_iter().filter(|p| *p <= 0.05).count();
    let mean = |of: &dyn Fn(&Foretold) -> f64| found.iter().map(of).sum::<f64>() / found.len().max(1) as f64;
    Figure {
        id: "prompt_and_answer".into(),
        title: format!(
            "In {told} of {} a prompt foretells the experts of its answer better than other prompts do: {:.0} % of the load alike, {:.0} % by chance; \
             {:.1} % of the slots fall on experts that it has touched",
            counted(found.len(), "layer", "layers"),
            100.0 * mean(&|row| row.nearness.observed),
            100.0 * mean(&|row| row.nearness.null_mean),
            100.0 * mean(&|row| row.covered.estimate)
        ),
        caption: "Share of the load that a prompt and what is generated after it have in common, beside that of prompts of other documents; by Holm at 5 %.".into(),
        table: "prompt_and_answer".into(),
        kind: FigureKind::Bars { x: "layer".into(), y: "nearness".into(), series: None },
    }
}

#[cfg(test)]
mod tests {
    use super::super::generate::Routes;
    use super::*;
    use crate::statistics::BootstrapMethod;
    use moescope_base::Seed;
    use rand::RngExt;

    const RESAMPLING: Resampling =
        Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };

    fn one(document: u32, prompt: Vec<u32>, generated: Vec<u32>) -> Spoken {
        let routes = |sets: Vec<u32>| Routes { entropy: vec![0.0; sets.len()], sets };
        Spoken {
            document,
            prompt: BTreeMap::from([(2, prompt)]),
            layers: BTreeMap::from([(2, [routes(Vec::new()), routes(generated)])]),
            same: BTreeMap::from([(2, (1, 1))]),
        }
    }

    fn run(spoken: &[Spoken], seed: u64) -> Foretold {
        foretold(spoken, &[(2, 8, 1)], Permutations::new(99, Seed(seed)), RESAMPLING).unwrap().remove(0)
    }

    #[test]
    fn shares_by_hand() {
        let spoken: Vec<Spoken> =
            (0..5).map(|document| one(document, vec![0, 0, 1, 3], vec![0, 1, 1, 5])).collect();
        let found = run(&spoken, 1);
        assert_eq!(
            (found.prompt.estimate, found.generated.estimate, found.covered.estimate),
            (0.375, 0.375, 0.75)
        );
        // Loads 2/4, 1/4, 1/4 at 3 against 1/4, 2/4, 1/4 at 5: a half has to move.
        assert!((found.nearness.observed - 0.5).abs() < 1e-12 && found.nearness.p_value == 1.0, "{found:?}");
        assert!(foretold(&spoken[..3], &[(2, 8, 1)], Permutations::new(9, Seed(1)), RESAMPLING).is_err());
        assert_eq!(table(std::slice::from_ref(&found)).unwrap().rows(), 1);
        assert!(figure(&[found]).title.contains("In 0 of 1 layer"));
    }

    /// Documents that prefer two experts, in the prompt, and after it as strongly or not.
    fn planted(seed: u64, kept: bool) -> Foretold {
        let mut rng = Seed(seed).child("prompts").rng();
        let spoken: Vec<Spoken> = (0..16)
            .map(|document| {
                let own: u32 = rng.random_range(0..8);
                let mut draw = |prefers: bool| match prefers && rng.random_bool(0.5) {
                    true => own,
                    false => rng.random_range(0..8),
                };
                let prompt = (0..12).map(|_| draw(true)).collect();
                one(document, prompt, (0..12).map(|_| draw(kept)).collect())
            })
            .collect();
        run(&spoken, seed)
    }

    #[test]
    fn answers_that_go_on_as_they_began_are_found_and_others_are_not() {
        let found = planted(1, true);
        assert!(found.nearness.p_value <= 0.01 && found.nearness.excess() > 0.05, "{found:?}");
        let alarms = (0..200).filter(|seed| planted(100 + seed, false).nearness.p_value <= 0.05).count();
        // Binomial of 200 at one in twenty: above 19 in less than one of a hundred.
        assert!((1..20).contains(&alarms), "{alarms} of 200");
    }
}
