use super::super::{beyond_chance, compare};
use crate::Family;
use crate::claim::{Draft, Wording};
use crate::measure::{Information, Measures, PathMeasure};
use crate::results::{Results, loss, subtract};

/// What a path tells about a label, as a share of what there was to tell above the null.
pub(super) fn share(information: &Information) -> f64 {
    information.adjusted_share.unwrap_or(f64::NAN)
}

/// One number of the path measure; none for models without paths.
pub(super) fn on_paths(pick: fn(&PathMeasure) -> f64) -> impl Fn(&Measures) -> Option<f64> + Copy {
    move |m| m.paths.as_ref().map(pick)
}

/// Loss with `sets[index]` sets per layer minus the unrestricted loss; or with random sets instead.
pub(super) fn restricted(index: usize, random: bool) -> impl Fn(&Measures) -> Option<f64> + Copy {
    move |m| {
        let restriction = m.restriction.as_ref()?;
        let point = restriction.points.get(index)?;
        Some(if random { point.random_sets_loss } else { point.loss } - restriction.unrestricted_loss)
    }
}

/// All claims of the question.
pub(super) fn drafts(results: &Results) -> Vec<Draft> {
    let last = results.config.instruments.restriction.len() - 1;
    let mut drafts =
        vec![Draft { primary: true, ..restriction(results, "few", 0) }, restriction(results, "many", last)];
    drafts.extend(controls(results));
    drafts.push(most_used(results));
    drafts.extend(weighting(results));
    drafts.extend(structure(results));
    drafts
}

/// What it costs to leave only some sets.
fn restriction(results: &Results, key: &str, index: usize) -> Draft {
    let (moe, sets) = (results.primary(), results.config.instruments.restriction[index]);
    Draft {
        key: key.into(),
        metric: "validation loss under restriction",
        unit: "nats/token",
        contrast: format!("{moe} with {sets} sets per layer − unrestricted"),
        null: "0: the other sets do nothing for the loss",
        table: "q4_restriction",
        values: results.language(moe, restricted(index, false)),
        primary: false,
        margin: Some(results.config.margins.loss),
        wording: Wording {
            above: format!("allowing only the {sets} most used expert sets per layer raises the loss"),
            below: format!("allowing only the {sets} most used expert sets per layer lowers the loss"),
            same: format!(
                "the {sets} most used expert sets per layer carry the whole loss, within the margin"
            ),
            open: format!("not decided: whether the {sets} most used expert sets per layer suffice"),
        },
    }
}

/// Secondary: whether the most used sets are worth more than as many others that the model uses.
fn most_used(results: &Results) -> Draft {
    let (moe, sets) = (results.primary(), results.config.instruments.restriction[0]);
    let random = results.language(moe, restricted(0, true));
    Draft {
        key: "most_used".into(),
        contrast: format!("{moe}, {sets} sets per layer: random among the used ones − the most used"),
        null: "0: any sets would do",
        values: subtract(&random, &results.language(moe, restricted(0, false))),
        margin: None,
        wording: compare(
            &format!("{sets} sets per layer drawn at random"),
            "loss",
            "as many of the most used",
        ),
        ..restriction(results, "most_used", 0)
    }
}

/// Secondary: what the weights of the chosen experts do, and the unlearned routes against learned ones whose weights sum
/// to 1 like theirs.
fn weighting(results: &Results) -> Vec<Draft> {
    let granularity = results.config.model.primary_granularity;
    let renormalised = Family::Renormalised { granularity };
    let draft = |key: &str, a: Family, b: Family, wording: Wording| Draft {
        key: key.into(),
        metric: "validation loss",
        unit: "nats/token",
        contrast: format!("{a} − {b}"),
        null: "0: the same loss",
        table: "families",
        values: results.difference(a, b, loss),
        primary: false,
        margin: Some(results.config.margins.loss),
        wording,
    };
    let learned = "learned routing with weights that sum to 1 as well";
    let weights = compare("learned routing with renormalised weights", "loss", "one with raw scores");
    vec![
        draft("weights", renormalised, results.primary(), weights),
        draft(
            "random_weights",
            Family::Random { granularity },
            renormalised,
            compare("random routing", "loss", learned),
        ),
        draft(
            "hash_weights",
            Family::Hash { granularity },
            renormalised,
            compare("routing by token id", "loss", learned),
        ),
    ]
}

/// Primary: what other ways to route cost.
fn controls(results: &Results) -> Vec<Draft> {
    let (moe, granularity) = (results.primary(), results.config.model.primary_granularity);
    let draft = |key: &str, family: Family, what: &str| Draft {
        key: key.into(),
        metric: "validation loss",
        unit: "nats/token",
        contrast: format!("{family} − {moe}"),
        null: "0: the same loss",
        table: "families",
        values: results.difference(family, moe, loss),
        primary: true,
        margin: Some(results.config.margins.loss),
        wording: compare(what, "loss", "learned routing of single experts"),
    };
    vec![
        draft("committee", Family::Committee { granularity }, "routing of fixed groups"),
        draft("random", Family::Random { granularity }, "random routing"),
        draft("frozen", Family::Frozen { granularity }, "an untrained router"),
        draft("hash", Family::Hash { granularity }, "routing by token id"),
    ]
}

/// Secondary: how many paths are used, and what they tell.
fn structure(results: &Results) -> Vec<Draft> {
    let moe = results.primary();
    let own = |pick: fn(&PathMeasure) -> f64| results.language(moe, on_paths(pick));
    let telling = |key: &str, metric, label: &str, values| Draft {
        key: key.into(),
        metric,
        unit: "share of the label",
        contrast: format!("{moe}, {label}: path − most telling single layer"),
        null: "0: the other layers add nothing",
        table: "q4_information",
        values,
        primary: false,
        margin: None,
        wording: beyond_chance(
            &format!("the layers together tell about the {label}"),
            "the most telling one alone",
        ),
    };
    vec![
        Draft {
            key: "structure".into(),
            metric: "effective number of paths",
            unit: "doublings",
            contrast: format!("{moe}: log2 of paths − of paths with layers shuffled independently"),
            null: "0: each layer chooses without regard to the others",
            table: "q4_number",
            values: own(|p| p.entropy - p.entropy_shuffled),
            primary: false,
            margin: None,
            wording: compare("the model", "number of used paths", "layers that choose independently"),
        },
        telling(
            "path_domain",
            "information about the domain",
            "domain",
            own(|p| share(&p.domain) - p.single_domain),
        ),
        telling(
            "path_token",
            "information about the token",
            "token",
            own(|p| share(&p.token) - p.single_token),
        ),
    ]
}
