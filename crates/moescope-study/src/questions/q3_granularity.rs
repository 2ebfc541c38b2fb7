use moescope_analysis::statistics;
use moescope_base::{Answer, Column, Figure, FigureKind, QuestionId, Table};

use super::{claims_exhibit, enumerate};
use crate::claim::{Claim, Decision, Draft, Wording, decide};
use crate::conclusion::{Chapter, answer as put_together};
use crate::measure::{LayerMeasure, Measures};
use crate::results::{Results, loss, mean};
use crate::tabulate::{Estimates, digits};
use crate::{Family, StudyError};

/// A quantity that is followed over granularity.
struct Quantity {
    key: &'static str,
    table: &'static str,
    name: &'static str,
    unit: &'static str,
    rises: &'static str,
    falls: &'static str,
    pick: fn(&Measures) -> Option<f64>,
    primary: bool,
    margin: Option<f64>,
}

/// Q3: what granularity does to representations.
pub(crate) fn answer(results: &Results) -> Result<(Answer, Chapter), StudyError> {
    let (quantities, missing): (Vec<Quantity>, Vec<Quantity>) =
        quantities(results).into_iter().partition(|q| q.primary || is_known(results, q));
    let drafts = quantities.iter().map(|q| draft(results, q)).collect::<Result<_, _>>()?;
    let claims = decide(drafts)?;
    let (mut tables, mut figures) = claims_exhibit("q3", "Slopes on log2 of granularity", &claims)?;
    for (quantity, claim) in quantities.iter().zip(&claims) {
        let (table, figure) = sweep_exhibit(results, quantity, claim)?;
        tables.push(table);
        figures.push(figure);
    }
    if let Some((table, figure)) = super::q3_law::exhibit(results)? {
        tables.push(table);
        figures.push(figure);
    }
    let mut limits = vec![
        "Finer experts see fewer tokens each; information is corrected by the mean of a null that keeps the loads, which removes \
         this bias on average only."
            .to_owned(),
        "The share of experts that a token chooses is the same at every granularity: granularity is varied, sparsity is not.".into(),
        "A finer expert is narrower, so the most dimensions it could use shrink: a rising share of them is not more dimensions.".into(),
        "A slope is an average over the measured range: a quantity may turn within it, and may go on otherwise beyond it.".into(),
    ];
    limits.extend(missing.iter().map(|q| {
        format!("The {} is not known for every model of the sweep, so nothing is said about it.", q.name)
    }));
    let needed: Vec<&str> = quantities.iter().filter(|q| q.primary).map(|q| q.key).collect();
    let answer =
        put_together(QuestionId::Q3, verdict(results, &quantities, &claims), &needed, &claims, &limits);
    let chapter = Chapter {
        id: "q3".into(),
        question: Some(QuestionId::Q3),
        heading: "What does granularity do to representations?".into(),
        prose: vec![format!(
            "Granularity {:?}: finer experts, of which each token uses more, at constant total and active parameters.",
            results.config.model.granularities
        )],
        figures,
        tables,
        method: vec![
            "Slope: ordinary least squares on log2 of granularity for each seed, then a t-test over the seeds' slopes, which \
             treats the seed as a random effect."
                .into(),
            "Effective rank: exponential of the entropy of the normalised eigenvalues of the covariance (after Roy and Vetterli 2007, who take singular values), \
             at an equal number of tokens; for an expert as a share of the smaller of its width and the residual width, since an \
             expert of few neurons cannot write to many dimensions. Participation ratio: (Σλ)² / Σλ² of the same eigenvalues (Gao et \
             al. 2017), of layers and of single experts likewise; more under the rule of the largest directions than the effective rank \
             is. Specialisation: mutual information of one choice with domain \
             or token above a permutation null that keeps every expert's load, as a share of what was left to find."
                .into(),
        ],
        limits,
    };
    Ok((answer, chapter))
}

/// Mean of one number over the routed layers of a model; none for a model without routes. It hides that layers may differ.
fn over_layers(m: &Measures, pick: fn(&LayerMeasure) -> f64) -> Option<f64> {
    m.routing.as_ref().map(|r| mean(&r.layers.iter().map(pick).collect::<Vec<_>>()))
}

/// What is followed over granularity, and how a rise and a fall of it are put into words.
fn quantities(results: &Results) -> Vec<Quantity> {
    let loss = vec![Quantity {
        key: "loss",
        table: "q3_loss",
        name: "validation loss",
        unit: "nats/token",
        rises: "raises the loss",
        falls: "lowers the loss",
        pick: loss,
        primary: true,
        margin: Some(results.config.margins.loss),
    }];
    loss.into_iter().chain(dimensions()).chain(information()).collect()
}

/// Over how many directions layers and experts spread what they write.
fn dimensions() -> Vec<Quantity> {
    vec![
        Quantity {
            key: "layer_rank",
            table: "q3_layer_rank",
            name: "effective rank of the layer's output",
            unit: "dimensions",
            rises: "spreads the layer's output over more dimensions",
            falls: "confines the layer's output to fewer dimensions",
            pick: |m| over_layers(m, |l| l.layer_rank),
            primary: false,
            margin: None,
        },
        Quantity {
            key: "expert_rank",
            table: "q3_expert_rank",
            name: "share of its possible dimensions that one expert uses",
            unit: "share",
            rises: "raises the share of the possible dimensions (the smaller of expert and residual width) that one expert uses",
            falls: "lowers the share of the possible dimensions (the smaller of expert and residual width) that one expert uses",
            pick: |m| over_layers(m, |l| l.expert_rank_share.unwrap_or(f64::NAN)),
            primary: true,
            margin: None,
        },
        Quantity {
            key: "participation",
            table: "q3_participation",
            name: "participation ratio of the layer's output",
            unit: "dimensions",
            rises: "evens out the layer's directions",
            falls: "concentrates the layer's output on its main directions",
            pick: |m| over_layers(m, |l| l.layer_participation),
            primary: false,
            margin: None,
        },
        Quantity {
            key: "expert_participation",
            table: "q3_expert_participation",
            name: "participation ratio of one expert's output",
            unit: "dimensions",
            rises: "evens out the directions of one expert",
            falls: "concentrates the output of one expert on fewer main directions",
            pick: |m| over_layers(m, |l| l.expert_participation.unwrap_or(f64::NAN)),
            primary: false,
            margin: None,
        },
        Quantity {
            key: "expert_participation_share",
            table: "q3_expert_participation_share",
            name: "participation ratio of one expert's output over its possible dimensions",
            unit: "share",
            rises: "raises the participation ratio of one expert as a share of its possible dimensions",
            falls: "lowers the participation ratio of one expert as a share of its possible dimensions",
            pick: |m| over_layers(m, |l| l.expert_participation_share.unwrap_or(f64::NAN)),
            primary: false,
            margin: None,
        },
    ]
}

/// What one choice of an expert tells.
fn information() -> Vec<Quantity> {
    vec![
        Quantity {
            key: "domain_information",
            table: "q3_domain_information",
            name: "share of the domain that one choice tells",
            unit: "share of the label",
            rises: "makes each choice of an expert tell more about the domain",
            falls: "makes each choice of an expert tell less about the domain",
            pick: |m| over_layers(m, |l| l.domain.adjusted_share.unwrap_or(f64::NAN)),
            primary: true,
            margin: None,
        },
        Quantity {
            key: "token_information",
            table: "q3_token_information",
            name: "share of the token that one choice tells",
            unit: "share of the label",
            rises: "makes each choice of an expert tell more about the token",
            falls: "makes each choice of an expert tell less about the token",
            pick: |m| over_layers(m, |l| l.token.adjusted_share.unwrap_or(f64::NAN)),
            primary: true,
            margin: None,
        },
    ]
}

/// One quantity at every granularity: the granularity, and one value for each seed.
fn sweep(results: &Results, quantity: &Quantity) -> Vec<(usize, Vec<f64>)> {
    let granularities = &results.config.model.granularities;
    granularities
        .iter()
        .map(|g| (*g, results.language(Family::Moe { granularity: *g }, quantity.pick)))
        .collect()
}

/// Whether the quantity is a number for every model of the sweep. It is not if no expert of a model had enough tokens, or if the
/// measurements are those of a version that did not keep it.
fn is_known(results: &Results, quantity: &Quantity) -> bool {
    sweep(results, quantity).iter().all(|(_, values)| values.iter().all(|value| value.is_finite()))
}

/// The slope of one quantity on log2 of granularity, one for each seed, as a claim against zero.
fn draft(results: &Results, quantity: &Quantity) -> Result<Draft, StudyError> {
    let sweep = sweep(results, quantity);
    let doses: Vec<f64> = sweep.iter().map(|(granularity, _)| *granularity as f64).collect();
    let seeds = 0..results.config.seeds as usize;
    let by_seed: Vec<Vec<f64>> =
        seeds.map(|seed| sweep.iter().map(|(_, values)| values[seed]).collect()).collect();
    let slopes = statistics::log2_trend(&doses, &by_seed)?.slopes;
    Ok(Draft {
        key: quantity.key.into(),
        metric: quantity.name,
        unit: quantity.unit,
        contrast: format!("{} per doubling of granularity", quantity.name),
        null: "0: granularity changes nothing",
        table: quantity.table,
        values: slopes,
        primary: quantity.primary,
        margin: quantity.margin,
        wording: Wording {
            above: format!("on average over the sweep, granularity {}", quantity.rises),
            below: format!("on average over the sweep, granularity {}", quantity.falls),
            same: format!(
                "granularity leaves the {} as it is, within the margin per doubling",
                quantity.name
            ),
            open: format!("not decided: whether granularity changes the {}", quantity.name),
        },
    })
}

/// Rule: the verdict lists what granularity is decided to change, what it is decided to leave, and what stays open.
fn verdict(results: &Results, quantities: &[Quantity], claims: &[Claim]) -> String {
    let of = |decisions: &[Decision], word: fn(&Quantity) -> &'static str| -> Vec<String> {
        let chosen = quantities.iter().zip(claims).filter(|(_, c)| decisions.contains(&c.decision));
        chosen.map(|(q, _)| word(q).to_owned()).collect()
    };
    let mut changes = of(&[Decision::Above], |q| q.rises);
    changes.extend(of(&[Decision::Below], |q| q.falls));
    let same = of(&[Decision::Same], |q| q.name);
    let open = of(&[Decision::Open], |q| q.name);
    let mut sentences = Vec::new();
    if changes.is_empty() {
        sentences
            .push("No effect of granularity on the representations is decided by this budget.".to_owned());
    } else {
        sentences.push(format!("On average over the sweep, granularity {}.", enumerate(&changes)));
    }
    if !same.is_empty() {
        sentences.push(format!("It leaves the {} as it is, within the margin.", enumerate(&same)));
    }
    if !open.is_empty() {
        sentences.push(format!("Not decided: {}.", enumerate(&open)));
    }
    sentences.extend(last_step(results, &quantities[0]));
    sentences.extend(super::weak_baseline(results));
    sentences.join(" ")
}

/// What a slope hides: that the loss goes the other way between the two finest granularities.
fn last_step(results: &Results, quantity: &Quantity) -> Option<String> {
    let sweep = sweep(results, quantity);
    let means: Vec<f64> = sweep.iter().map(|(_, values)| mean(values)).collect();
    let [.., before, last] = means.as_slice() else { return None };
    let (step, whole) = (last - before, last - means[0]);
    (step * whole < 0.0).then(|| {
        format!(
            "From granularity {} to {} the mean {} goes the other way ({} {}), so the best lies inside the sweep or the step is \
             noise.",
            sweep[sweep.len() - 2].0,
            sweep[sweep.len() - 1].0,
            quantity.name,
            digits(step),
            quantity.unit
        )
    })
}

/// One quantity by granularity as a table and a line, with the claim about its slope as the title.
fn sweep_exhibit(
    results: &Results,
    quantity: &Quantity,
    claim: &Claim,
) -> Result<(Table, Figure), StudyError> {
    let sweep = sweep(results, quantity);
    let name = quantity.table.to_owned();
    let rows: Vec<Vec<f64>> = sweep.iter().map(|(_, values)| values.clone()).collect();
    let mut columns = vec![Column::integer_key(
        "granularity",
        "",
        "d_ff over expert width (Warsaw)",
        sweep.iter().map(|(g, _)| *g as i64).collect(),
    )];
    columns.extend(Estimates::of(&rows)?.columns("value", quantity.unit, quantity.name));
    let table = Table::new(
        &name,
        format!("{} by granularity", capitalise(quantity.name)),
        "Mean over layers, per seed.",
        columns,
    )?;
    let e = &claim.evidence;
    let title = match claim.decision {
        Decision::Open => format!("Granularity and {}: not decided", quantity.name),
        Decision::Same => format!("Granularity leaves the {} as it is", quantity.name),
        _ => format!(
            "{} changes by {} per doubling of granularity",
            capitalise(quantity.name),
            digits(e.estimate)
        ),
    };
    let figure = Figure {
        id: name.clone(),
        title,
        caption: format!(
            "Slope {} {} per doubling, 95 % interval {} to {}, {} seeds. Bands are 95 % t-intervals at each granularity.",
            digits(e.estimate),
            quantity.unit,
            digits(e.ci_low),
            digits(e.ci_high),
            e.n_seeds
        ),
        table: name,
        kind: FigureKind::Lines { x: "granularity".into(), y: "value".into(), series: None, log2_x: true },
    };
    Ok((table, figure))
}

/// The text with its first letter in upper case.
fn capitalise(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
