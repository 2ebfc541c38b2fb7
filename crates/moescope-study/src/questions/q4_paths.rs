use moescope_base::{Answer, Column, Figure, FigureKind, QuestionId, Table};

use super::{beyond_chance, claims_exhibit, compare};
use crate::claim::{Claim, Claims, Decision, Draft, Wording, decide};
use crate::conclusion::{Chapter, answer as put_together};
use crate::measure::{Measures, PathMeasure};
use crate::results::{Results, loss, mean, subtract};
use crate::tabulate::{Estimates, digits};
use crate::{Family, StudyError};

/// Q4: what the many paths do.
pub(crate) fn answer(results: &Results) -> Result<(Answer, Chapter), StudyError> {
    let claims = decide(drafts(results))?;
    let (mut tables, mut figures) = claims_exhibit("q4", "Paths and what restricting them does", &claims)?;
    for (table, figure) in [
        restriction_exhibit(results)?,
        number_exhibit(results)?,
        coverage_exhibit(results)?,
        information_exhibit(results)?,
    ] {
        tables.push(table);
        figures.push(figure);
    }
    let limits = vec![
        "The restriction acts on a trained model that never learned to live with few paths; one trained under it might lose less."
            .to_owned(),
        "Hash and random routes use equal weights, learned ones their scores, so these controls differ in weighting too.".into(),
        "The number of paths is estimated from a sample; the estimate corrects for unseen paths on average.".into(),
    ];
    let needed = ["few", "committee", "random", "frozen", "hash"];
    let answer = put_together(QuestionId::Q4, verdict(results, &claims), &needed, &claims, &limits);
    let chapter = Chapter {
        question: Some(QuestionId::Q4),
        heading: "What do the many paths do?".into(),
        prose: vec![
            "The path of a token is the sequence of the expert sets that it chose, layer by layer. Counting paths says how many \
             are used; only taking them away says what they are for."
                .into(),
        ],
        figures,
        tables,
        method: vec![
            "Restriction: from a trace of training text the K most used sets of each layer are kept; on validation text every \
             token takes the allowed set whose scores have the largest sum. Control: K observed sets drawn at random."
                .into(),
            "Committee routing trains fine experts that can be chosen only in fixed groups: the weights are as granular, the \
             choice is as coarse as at granularity 1."
                .into(),
            "Number of paths: exponential of the Chao–Shen entropy (Chao and Shen 2003), beside the number when the layers' sets \
             are shuffled independently. Information: mutual information minus the mean of a permutation null."
                .into(),
        ],
        limits,
    };
    Ok((answer, chapter))
}

fn on_paths(pick: fn(&PathMeasure) -> f64) -> impl Fn(&Measures) -> Option<f64> + Copy {
    move |m| m.paths.as_ref().map(pick)
}

/// Loss with `sets[index]` sets per layer minus the unrestricted loss; or with random sets instead.
fn restricted(index: usize, random: bool) -> impl Fn(&Measures) -> Option<f64> + Copy {
    move |m| {
        let restriction = m.restriction.as_ref()?;
        let point = restriction.points.get(index)?;
        Some(if random { point.random_sets_loss } else { point.loss } - restriction.unrestricted_loss)
    }
}

fn drafts(results: &Results) -> Vec<Draft> {
    let moe = results.primary();
    let granularity = results.config.model.primary_granularity;
    let sets = &results.config.instruments.restriction;
    let (few, many) = (0, sets.len() - 1);
    let margin = Some(results.config.margins.loss);
    let control = |key: &str, family: Family, what: &str| Draft {
        key: key.into(),
        metric: "validation loss",
        unit: "nats/token",
        contrast: format!("{family} − {moe}"),
        null: "0: the same loss",
        table: "families",
        values: results.difference(family, moe, loss),
        margin,
        wording: compare(what, "loss", "learned routing of single experts"),
    };
    let restriction = |key: &str, index: usize| Draft {
        key: key.into(),
        metric: "validation loss under restriction",
        unit: "nats/token",
        contrast: format!("{moe} with {} sets per layer − unrestricted", sets[index]),
        null: "0: the other sets do nothing for the loss",
        table: "q4_restriction",
        values: results.language(moe, restricted(index, false)),
        margin,
        wording: Wording {
            above: format!(
                "allowing only the {} most used expert sets per layer raises the loss",
                sets[index]
            ),
            below: format!(
                "allowing only the {} most used expert sets per layer lowers the loss",
                sets[index]
            ),
            same: format!(
                "the {} most used expert sets per layer carry the whole loss, within the margin",
                sets[index]
            ),
            open: format!("not decided: whether the {} most used expert sets per layer suffice", sets[index]),
        },
    };
    let excess = |pick: fn(&PathMeasure) -> f64| results.language(moe, on_paths(pick));
    vec![
        restriction("few", few),
        restriction("many", many),
        control("committee", Family::Committee { granularity }, "routing of fixed groups"),
        control("random", Family::Random { granularity }, "random routing"),
        control("frozen", Family::Frozen { granularity }, "an untrained router"),
        control("hash", Family::Hash { granularity }, "routing by token id"),
        Draft {
            key: "structure".into(),
            metric: "effective number of paths",
            unit: "doublings",
            contrast: format!("{moe}: log2 of paths − of paths with layers shuffled independently"),
            null: "0: each layer chooses without regard to the others",
            table: "q4_number",
            values: excess(|p| p.entropy - p.entropy_shuffled),
            margin: None,
            wording: compare("the model", "number of used paths", "layers that choose independently"),
        },
        Draft {
            key: "path_domain".into(),
            metric: "information about the domain",
            unit: "bits/token",
            contrast: format!("{moe}: path − most telling single layer"),
            null: "0: a path tells no more than its most telling layer",
            table: "q4_information",
            values: excess(|p| p.domain.corrected() - p.single_domain),
            margin: None,
            wording: beyond_chance("the path tells more about the domain", "its most telling layer"),
        },
        Draft {
            key: "path_token".into(),
            metric: "information about the token",
            unit: "bits/token",
            contrast: format!("{moe}: path − most telling single layer"),
            null: "0: a path tells no more than its most telling layer",
            table: "q4_information",
            values: excess(|p| p.token.corrected() - p.single_token),
            margin: None,
            wording: beyond_chance("the path tells more about the token", "its most telling layer"),
        },
    ]
}

/// Rule: the first sentence says whether few sets suffice (the restriction), the second whether free combination of fine
/// experts matters (the committee control), the third whether a learned choice matters (random, frozen, hash).
fn verdict(results: &Results, claims: &[Claim]) -> String {
    let claims = Claims(claims);
    let moe = results.primary();
    let sets = &results.config.instruments.restriction;
    let number = digits(mean(&results.language(moe, on_paths(PathMeasure::effective))));
    let possible = digits(mean(&results.language(moe, on_paths(|p| p.log2_possible))));
    let few = &claims.get("few").evidence;
    let restriction = match (claims.decision("few"), claims.decision("many")) {
        (Decision::Same, _) => {
            format!("The {} most used sets per layer would do, within the margin.", sets[0])
        }
        (Decision::Above, Decision::Same) => format!(
            "They matter: with {} sets per layer the loss rises by {} nats; yet the {} most used suffice, within the margin.",
            sets[0],
            digits(few.estimate),
            sets[sets.len() - 1]
        ),
        (Decision::Above, Decision::Above) => format!(
            "They matter: with {} sets per layer the loss rises by {} nats, and even {} do not suffice.",
            sets[0],
            digits(few.estimate),
            sets[sets.len() - 1]
        ),
        (Decision::Above, _) => {
            format!(
                "They matter: with {} sets per layer the loss rises by {} nats.",
                sets[0],
                digits(few.estimate)
            )
        }
        (Decision::Below, _) => {
            format!("The model does better when it may use only {} sets per layer.", sets[0])
        }
        (Decision::Open, _) => "Whether a few of them would do is not decided.".to_owned(),
    };
    let combination = match claims.decision("committee") {
        Decision::Above => "Combining fine experts freely is better than choosing them in fixed groups.",
        Decision::Below => "Choosing fine experts in fixed groups is even better than combining them freely.",
        Decision::Same => "Combining fine experts freely gains nothing over fixed groups, within the margin.",
        Decision::Open => {
            "Whether combining fine experts freely gains anything over fixed groups is not decided."
        }
    };
    format!(
        "Of 2^{possible} possible paths the tokens use about {number}. {restriction} {combination} {}",
        learning(&claims)
    )
}

fn learning(claims: &Claims<'_>) -> String {
    let controls =
        [("random", "random routes"), ("frozen", "an untrained router"), ("hash", "routes by token id")];
    let of = |wanted: Decision| -> Vec<String> {
        let chosen = controls.iter().filter(|(key, _)| claims.decision(key) == wanted);
        chosen.map(|(_, name)| (*name).to_owned()).collect()
    };
    let sentence = |names: Vec<String>, text: &str| {
        (!names.is_empty()).then(|| format!("{text} {}.", super::enumerate(&names)))
    };
    let parts = [
        sentence(of(Decision::Above), "A learned choice of path beats"),
        sentence(of(Decision::Same), "A learned choice of path does no better, within the margin, than"),
        sentence(of(Decision::Below), "A learned choice of path does worse than"),
        sentence(of(Decision::Open), "Nothing is decided between a learned choice of path and"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn restriction_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let moe = results.primary();
    let sets = &results.config.instruments.restriction;
    let mut kinds = Vec::new();
    let mut allowed = Vec::new();
    let mut rows = Vec::new();
    for (name, random) in [("most used", false), ("random among the used", true)] {
        for (index, count) in sets.iter().enumerate() {
            kinds.push(name.to_owned());
            allowed.push(*count as i64);
            rows.push(results.language(moe, restricted(index, random)));
        }
    }
    let mut columns = vec![
        Column::key("kept", "which sets stay allowed", kinds),
        Column::integer_key("sets", "sets/layer", "allowed expert sets in each layer", allowed),
    ];
    columns.extend(Estimates::of(&rows)?.columns("cost", "nats/token", "validation loss minus unrestricted"));
    let table =
        Table::new("q4_restriction", "What restricting paths costs", "Paired within each model.", columns)?;
    let cost = |index, random| digits(mean(&results.language(moe, restricted(index, random))));
    let last = sets.len() - 1;
    let figure = Figure {
        id: "q4_restriction".into(),
        title: format!(
            "{} allowed sets per layer cost {} nats, {} cost {}",
            sets[0],
            cost(0, false),
            sets[last],
            cost(last, false)
        ),
        caption: "Rise in validation loss when only K expert sets per layer may be used, against the same number of sets drawn \
                  at random among those observed. Bands are 95 % t-intervals over seeds."
            .into(),
        table: "q4_restriction".into(),
        kind: FigureKind::Lines { x: "sets".into(), y: "cost".into(), series: Some("kept".into()), log2_x: true },
    };
    Ok((table, figure))
}

fn number_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let sweep: Vec<Family> =
        results.config.model.granularities.iter().map(|g| Family::Moe { granularity: *g }).collect();
    type Pick = fn(&PathMeasure) -> f64;
    let kinds: [(&str, Pick); 3] = [
        ("used", |p| p.entropy),
        ("used, layers shuffled independently", |p| p.entropy_shuffled),
        ("possible", |p| p.log2_possible),
    ];
    let mut names = Vec::new();
    let mut x = Vec::new();
    let mut rows = Vec::new();
    for (name, pick) in kinds {
        for (family, granularity) in sweep.iter().zip(&results.config.model.granularities) {
            names.push(name.to_owned());
            x.push(*granularity as i64);
            rows.push(results.language(*family, on_paths(pick)));
        }
    }
    let mut columns = vec![
        Column::key("paths", "which number of paths", names),
        Column::integer_key("granularity", "", "d_ff over expert width (Warsaw)", x),
    ];
    columns.extend(Estimates::of(&rows)?.columns("bits", "bits", "log2 of the number of paths"));
    let table = Table::new(
        "q4_number",
        "Number of paths by granularity",
        "Chao–Shen estimate from the validation tokens.",
        columns,
    )?;
    let of = |family: Family, pick: Pick| digits(mean(&results.language(family, on_paths(pick))));
    let figure = Figure {
        id: "q4_number".into(),
        title: format!(
            "{} uses 2^{} of 2^{} possible paths",
            results.primary(),
            of(results.primary(), |p| p.entropy),
            of(results.primary(), |p| p.log2_possible)
        ),
        caption: "Effective number of paths (exponential of the entropy), in powers of two. The sample bounds what can be seen: \
                  it holds fewer tokens than there are possible paths at fine granularity."
            .into(),
        table: "q4_number".into(),
        kind: FigureKind::Lines { x: "granularity".into(), y: "bits".into(), series: Some("paths".into()), log2_x: true },
    };
    Ok((table, figure))
}

fn coverage_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let mut names = Vec::new();
    let mut x = Vec::new();
    let mut rows = Vec::new();
    for granularity in &results.config.model.granularities {
        let family = Family::Moe { granularity: *granularity };
        let points = results.language(family, |m| m.paths.as_ref().map(|p| p.coverage.len() as f64));
        let points = points.iter().copied().fold(0.0, f64::max) as usize;
        for index in 0..points {
            let kept =
                |m: &Measures| m.paths.as_ref().and_then(|p| p.coverage.get(index)).map(|c| c.paths as f64);
            names.push(family.to_string());
            x.push(mean(&results.language(family, kept)) as i64);
            rows.push(
                results.language(family, |m| {
                    m.paths.as_ref().and_then(|p| p.coverage.get(index)).map(|c| c.share)
                }),
            );
        }
    }
    let mut columns = vec![
        Column::key("family", "kind of model", names),
        Column::integer_key("paths", "paths", "most used paths kept", x),
    ];
    columns.extend(Estimates::of(&rows)?.columns("share", "of tokens", "tokens whose path is among them"));
    let table = Table::new(
        "q4_coverage",
        "Coverage by the most used paths",
        "Paths ranked by use in the validation tokens.",
        columns,
    )?;
    let at = 16;
    let share = |m: &Measures| {
        m.paths.as_ref().and_then(|p| p.coverage.iter().find(|c| c.paths == at)).map(|c| 100.0 * c.share)
    };
    let figure = Figure {
        id: "q4_coverage".into(),
        title: format!(
            "The {at} most used paths carry {} % of the tokens in {}",
            digits(mean(&results.language(results.primary(), share))),
            results.primary()
        ),
        caption: "Share of validation tokens covered by the K most used paths. Bands are 95 % t-intervals over seeds.".into(),
        table: "q4_coverage".into(),
        kind: FigureKind::Lines { x: "paths".into(), y: "share".into(), series: Some("family".into()), log2_x: true },
    };
    Ok((table, figure))
}

fn information_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    type Pick = fn(&PathMeasure) -> f64;
    let kinds: [(&str, &str, Pick); 4] = [
        ("whole path", "domain", |p| p.domain.corrected()),
        ("most telling layer", "domain", |p| p.single_domain),
        ("whole path", "token", |p| p.token.corrected()),
        ("most telling layer", "token", |p| p.single_token),
    ];
    let moe = results.primary();
    let rows: Vec<Vec<f64>> =
        kinds.iter().map(|(_, _, pick)| results.language(moe, on_paths(*pick))).collect();
    let mut columns = vec![
        Column::key("about", "label", kinds.iter().map(|k| k.1.to_owned()).collect()),
        Column::key("unit", "what of the route", kinds.iter().map(|k| k.0.to_owned()).collect()),
    ];
    columns.extend(Estimates::of(&rows)?.columns(
        "information",
        "bits/token",
        "mutual information minus the mean of its null",
    ));
    let table = Table::new(
        "q4_information",
        "What routes tell about tokens",
        "Permutation null, corrected in the same way for paths and layers.",
        columns,
    )?;
    let gain = subtract(
        &results.language(moe, on_paths(|p| p.domain.corrected())),
        &results.language(moe, on_paths(|p| p.single_domain)),
    );
    let figure = Figure {
        id: "q4_information".into(),
        title: format!("The whole path tells {} bits more about the domain than its most telling layer", digits(mean(&gain))),
        caption: "Mutual information between route and label, above a permutation null. Bars are 95 % t-intervals over seeds.".into(),
        table: "q4_information".into(),
        kind: FigureKind::Bars { x: "about".into(), y: "information".into(), series: Some("unit".into()) },
    };
    Ok((table, figure))
}
