use super::super::{beyond_chance, compare};
use crate::claim::{Draft, Wording};
use crate::measure::{AttributionMeasure, Measures};
use crate::results::{Results, subtract};
use crate::{Family, StudyError};

/// How far the probe for the next token's class is above its control.
pub(super) fn selectivity(m: &Measures) -> Option<f64> {
    m.probes.as_ref().map(|p| p.class.selectivity())
}

/// Accuracy of the probe for the domain.
pub(super) fn domain_accuracy(m: &Measures) -> Option<f64> {
    m.probes.as_ref().map(|p| p.domain.accuracy)
}

/// How far the probe for the domain is above one for random labels of tokens, which only a memory of tokens can read.
pub(super) fn domain_selectivity(m: &Measures) -> Option<f64> {
    m.probes.as_ref().map(|p| p.domain.selectivity())
}

/// How much nearer the lens is to the final prediction than its rotated control.
pub(super) fn lens_gain(m: &Measures) -> Option<f64> {
    m.lens.as_ref().map(|l| l.rotated - l.last_inner())
}

/// The same as a share of the control's distance, so that models with other predictions compare: 1 is the final
/// prediction itself, 0 no better than rotated.
pub(super) fn lens_share(m: &Measures) -> Option<f64> {
    m.lens.as_ref().map(|l| 1.0 - l.last_inner() / l.rotated)
}

/// Correlation of attributed with true effect.
pub(super) fn correlation(m: &Measures) -> Option<f64> {
    m.attribution.as_ref().map(|a| a.pearson)
}

/// All claims of the question: first whether each technique works on MoE, then whether as well as on dense models.
pub(super) fn drafts(results: &Results) -> Result<Vec<Draft>, StudyError> {
    let mut drafts = works(results);
    drafts.extend(compares(results));
    drafts.push(domain_beyond_tokens(results));
    drafts.push(flip_cost(results));
    Ok(drafts)
}

/// Primary: does the technique beat its own control on granular MoE?
fn works(results: &Results) -> Vec<Draft> {
    let moe = results.primary();
    let own = |pick: fn(&Measures) -> Option<f64>| results.language(moe, pick);
    let chance = 1.0 / results.dataset.domain_names.len() as f64;
    let draft =
        |key: &str, metric, unit, contrast: &str, null, values, statement: &str, control: &str| Draft {
            key: key.into(),
            metric,
            unit,
            contrast: format!("{moe}: {contrast}"),
            null,
            table: "q1_techniques",
            values,
            primary: true,
            margin: None,
            wording: beyond_chance(statement, control),
        };
    let domain = own(domain_accuracy);
    vec![
        draft(
            "probe_works",
            "selectivity of a linear probe for the next token's class",
            "accuracy",
            "accuracy − control",
            "0: the probe reads classes no better than random labels of tokens",
            own(selectivity),
            "a linear probe reads the class of the next token from the residual stream of MoE",
            "its control task",
        ),
        draft(
            "domain_works",
            "accuracy of a linear probe for the domain, on documents it has not seen",
            "accuracy",
            "accuracy − chance",
            "0: the probe guesses; every domain has as many tokens",
            subtract(&domain, &vec![chance; domain.len()]),
            "a linear probe reads the domain from the residual stream of MoE",
            "chance",
        ),
        draft(
            "lens_works",
            "Kullback–Leibler divergence of the logit lens after the last inner block",
            "nats",
            "rotated control − lens",
            "0: no better than a rotated residual stream",
            own(lens_gain),
            "the logit lens on MoE comes near the final prediction",
            "a rotated control",
        ),
        draft(
            "attribution_works",
            "correlation of attributed with true effect",
            "correlation",
            "correlation",
            "0: attribution says nothing about the effect",
            own(correlation),
            "gradient attribution on MoE predicts true effects",
            "no correlation",
        ),
    ]
}

/// Secondary: is it as good as on a dense model of the same active width?
fn compares(results: &Results) -> Vec<Draft> {
    let (moe, dense) = (results.primary(), Family::Dense { times: 1 });
    let margins = &results.config.margins;
    let draft = |key: &str,
                 what: &str,
                 unit,
                 pick: fn(&Measures) -> Option<f64>,
                 margin,
                 subject: &str,
                 quantity: &str| Draft {
        key: key.into(),
        metric: "difference from dense",
        unit,
        contrast: format!("{what}: {moe} − {dense}"),
        null: "0: as on dense",
        table: "q1_techniques",
        values: results.difference(moe, dense, pick),
        primary: false,
        margin: Some(margin),
        wording: compare(&format!("{subject} on MoE"), quantity, &format!("{subject} on dense")),
    };
    vec![
        draft(
            "probe_equal",
            "class selectivity",
            "accuracy",
            selectivity,
            margins.accuracy,
            "the class probe",
            "selectivity",
        ),
        draft(
            "domain_equal",
            "domain accuracy",
            "accuracy",
            domain_accuracy,
            margins.accuracy,
            "the domain probe",
            "accuracy",
        ),
        draft(
            "lens_equal",
            "logit lens after the last inner block",
            "share of the control",
            lens_share,
            margins.accuracy,
            "the logit lens",
            "share of its control's distance made good",
        ),
        draft(
            "attribution_equal",
            "attribution",
            "correlation",
            correlation,
            margins.correlation,
            "attribution",
            "correlation with the truth",
        ),
    ]
}

/// Secondary: whether the domain is read better than a memory of tokens would allow.
fn domain_beyond_tokens(results: &Results) -> Draft {
    let moe = results.primary();
    Draft {
        key: "domain_selective".into(),
        metric: "selectivity of a linear probe for the domain",
        unit: "accuracy",
        contrast: format!("{moe}: domain accuracy − control"),
        null: "0: the domain is read no better than random labels of tokens",
        table: "q1_techniques",
        values: results.language(moe, domain_selectivity),
        primary: false,
        margin: None,
        wording: beyond_chance(
            "the domain probe on MoE reads more than a memory of tokens",
            "its control task",
        ),
    }
}

/// Secondary: what flipped routes do to attribution, on the same edits with routes free and held.
fn flip_cost(results: &Results) -> Draft {
    let moe = results.primary();
    let cost = |m: &Measures| m.attribution.as_ref().and_then(AttributionMeasure::cost_of_flips);
    Draft {
        key: "flip_cost".into(),
        metric: "absolute error of attribution over the mean true effect",
        unit: "relative error",
        contrast: format!("{moe}: edits that flip a route, free − held"),
        null: "0: flips do not hurt",
        table: "q1_flips",
        values: results.language(moe, cost),
        primary: false,
        margin: None,
        wording: Wording {
            above: "flipped routes make attribution err more".into(),
            below: "flipped routes make attribution err less".into(),
            same: "flipped routes leave the error of attribution as it is".into(),
            open: "not decided: whether flipped routes make attribution err more".into(),
        },
    }
}
