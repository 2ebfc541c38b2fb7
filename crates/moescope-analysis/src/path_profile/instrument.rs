//! The instrument `path-profile`.

use moescope_base::{Figure, FigureKind};

use super::METHOD;
use super::profile::{Profile, Profiles, Setting, profiles};
use super::tables::{layers, passages, profile, purities, texts};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Overhears, Promise, Property, Reading, Reads, Rule,
};
use crate::neuron_profile::Text;
use crate::statistics::holm;
use crate::wording::{counted, signed};

/// Paths whose texts are shown.
const SHOWN: usize = 6;

/// The instrument `path-profile`.
pub struct PathProfile;

const fn significant(says: &'static str, value: &'static str) -> Reading {
    Reading { says, table: "path_profile", rows: &[], value, rule: Rule::Significant }
}

const KNOWN: Reading = significant("a path is known by a token", "telling");
const SPEAKS: Reading = significant("a path is known by what is predicted", "predicting");
const COSTS: Reading = significant("a path costs more or less than its tokens", "beyond_tokens");
const DOMAIN: Reading = significant("a path keeps to a domain", "lift");
const PURER: Reading = Reading {
    says: "paths are purer in tokens than their experts",
    table: "path_purity",
    rows: &[("label", "token")],
    value: "gain",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::TokenRoutes, KNOWN),
    Promise::is_silent(Property::RandomRoutes, KNOWN),
    Promise::is_silent(Property::DependentLayers, KNOWN),
    Promise::finds(Property::TokenRoutes, PURER),
    Promise::is_silent(Property::RandomRoutes, PURER),
    Promise::is_silent(Property::DependentLayers, PURER),
    Promise::finds(Property::FragileRoutes, SPEAKS),
    Promise::is_silent(Property::PositionRoutes, SPEAKS),
    Promise::finds(Property::RashExpert, COSTS),
    Promise::is_silent(Property::FragileRoutes, COSTS),
    Promise::is_silent(Property::DependentLayers, COSTS),
    Promise::finds(Property::DomainRoutes, DOMAIN),
    Promise::is_silent(Property::TokenRoutes, DOMAIN),
    Promise::is_silent(Property::RandomRoutes, DOMAIN),
];

impl Instrument for PathProfile {
    fn about(&self) -> About {
        About {
            name: "path-profile",
            group: Group::Paths,
            question: "By which tokens and texts are single paths known, what is predicted there and how well, and are paths purer than their experts?",
            null: "paths moved along each document; the purest of a path's experts; the same tokens on other paths",
            does_not_show: "that experts are composed: two that read different things of a token have a purer path than either",
            source: "single paths of one meaning among experts of many, Yuan et al. 2026 (arXiv 2604.17837), here with a test; purity after Simpson 1949",
            passes: "one for each batch",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Whole
    }

    fn overhears(&self) -> &'static [Overhears] {
        &[Overhears::Predictions]
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        material.expect(Overhears::Predictions);
        let trace = material.routes()?.clone();
        let text = Text::new(&material.batches);
        let predictions = material.predictions()?.clone();
        let setting = Setting {
            permutations: material.permutations(METHOD),
            resampling: material.resampling(METHOD),
            seed: material.seed.child(METHOD),
        };
        let found = profiles(&trace, &text, &predictions, setting)?;
        let shown = most_telling(&found);
        let names = trace.tokens().domain_names.clone();
        let tables = vec![
            profile(&found, &names, material)?,
            purities(&found)?,
            texts(&found, &text, &predictions.ids, material)?,
            passages(&found, &shown, &text, &predictions, material)?,
        ];
        let figures =
            vec![purer_figure(&found), cost_figure(&found), passages_figure(&found, &shown, material)];
        Ok(Finding { tables, figures })
    }
}

fn telling(profile: &Profile) -> f64 {
    profile.known.first.first().map_or(0.0, |first| first.deviance)
}

/// The paths that are known best, the best first.
fn most_telling(found: &Profiles) -> Vec<usize> {
    let mut order: Vec<usize> = (0..found.of.len()).collect();
    order.sort_by(|a, b| telling(&found.of[*b]).total_cmp(&telling(&found.of[*a])).then(a.cmp(b)));
    order.truncate(SHOWN);
    order
}

/// Rows that remain at 5 % by Holm.
fn beyond_chance(found: &Profiles, p: fn(&Profile) -> f64) -> usize {
    let p: Vec<f64> = found.of.iter().map(p).collect();
    holm(&p).into_iter().filter(|p| *p <= 0.05).count()
}

/// Purity of each path beside the purest of its experts.
fn purer_figure(found: &Profiles) -> Figure {
    let of = &found.purities[0].1;
    let title = format!(
        "Two tokens of one path agree with probability {:.3}, of the purest of its experts with {:.3}: {}",
        of.mean.estimate,
        of.purest,
        signed(&of.gain)
    );
    let caption = format!(
        "Each point is one of {} of {} through {}. Above the line, two tokens of the path from different documents agree in their id more often than \
         two of the purest expert on it. Two experts that read different things of a token make a path purer than either.",
        counted(found.of.len(), "path", "paths"),
        counted(found.walks.distinct, "path", "paths"),
        layers(found)
    );
    let kind = FigureKind::Scatter { x: "purest".into(), y: "purity".into(), series: None, diagonal: true };
    Figure { id: "path_purity".into(), title, caption, table: "path_profile".into(), kind }
}

/// Loss of each path beyond that of its tokens.
fn cost_figure(found: &Profiles) -> Figure {
    let differ = beyond_chance(found, |profile| profile.beyond.p_value);
    let verb = if differ == 1 { "costs" } else { "cost" };
    let title = format!(
        "{differ} of {} {verb} more or less than the same tokens do on other paths",
        counted(found.of.len(), "path", "paths")
    );
    let caption = "Loss on each path minus that of the same token ids elsewhere, with 95 % intervals over documents; the title counts by Holm at 5 %. What \
                   comes before a token decides both its path and how hard the next one is. Paths without a token of which others have five are left out.";
    let kind =
        FigureKind::Forest { label: "path".into(), estimate: "beyond_tokens".into(), reference: Some(0.0) };
    Figure { id: "path_cost".into(), title, caption: caption.into(), table: "path_profile".into(), kind }
}

/// Texts of the best-known paths.
fn passages_figure(found: &Profiles, shown: &[usize], material: &Material<'_>) -> Figure {
    let known = beyond_chance(found, |profile| profile.known.p_value);
    let verb = if known == 1 { "is" } else { "are" };
    let p: Vec<f64> = found.of.iter().map(|profile| profile.known.p_value).collect();
    let called = holm(&p);
    let example = shown.iter().find(|place| called[**place] <= 0.05).and_then(|place| {
        let first = found.of[*place].known.first.first()?;
        let (name, word) = (found.walks.paths[*place].name(), material.word(first.id));
        Some(format!("; most {name}, which {} of {} {word} walk", first.hits, first.of))
    });
    Figure {
        id: "path_texts".into(),
        title: format!(
            "{known} of {} {verb} known by a token{}",
            counted(found.of.len(), "path", "paths"),
            example.unwrap_or_default()
        ),
        caption: "Texts of the paths whose tokens tell most, drawn by chance from different documents; the token that walks the path is marked, point at it for \
                  the loss of what comes after it."
            .into(),
        table: "path_passages".into(),
        kind: FigureKind::Passages {
            passage: "passage".into(),
            text: "token".into(),
            mark: "mark".into(),
            value: "loss".into(),
        },
    }
}
