use moescope_base::{Answer, Column, Figure, FigureKind, QuestionId, Table};

use super::{claims_exhibit, compare, enumerate};
use crate::claim::{Claim, Decision, Draft, decide};
use crate::conclusion::{Chapter, answer as put_together};
use crate::measure::Measures;
use crate::results::{Results, subtract};
use crate::roster::Workload;
use crate::tabulate::Estimates;
use crate::{Family, StudyError};

const COARSE: Family = Family::Moe { granularity: 1 };

/// One application: where granular and coarse MoE are compared.
struct Application {
    name: String,
    metric: &'static str,
    unit: &'static str,
    /// Whether more is better.
    more_is_better: bool,
    table: &'static str,
    /// Granular minus coarse, paired by seed.
    difference: Vec<f64>,
    /// Whether the answer rests on it: the tasks and the text as a whole; single domains are looked at besides.
    primary: bool,
    margin: Option<f64>,
    /// Why its difference says nothing, if that is so.
    silence: Option<Silence>,
}

/// Why a comparison on a task says nothing about granularity, whatever its test says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    NotLearned,
    Solved,
}

/// Q5: where granular MoE outperforms coarse MoE at equal compute.
pub(crate) fn answer(results: &Results) -> Result<(Answer, Chapter), StudyError> {
    let applications = applications(results);
    let claims = silenced(&applications, decide(applications.iter().map(draft).collect())?);
    let (mut tables, mut figures) = claims_exhibit("q5", "Granular minus coarse MoE", &claims)?;
    for (table, figure) in [domain_exhibit(results, &applications, &claims)?, task_exhibit(results)?] {
        tables.push(table);
        figures.push(figure);
    }
    let limits = vec![
        "Three synthetic tasks and the domains of one corpus stand for applications; none of them is one.".to_owned(),
        "Equal compute means equal active and total parameters without the router, whose cost grows with granularity.".into(),
        "On the tasks and single domains, one learning rate for both granularities.".into(),
        super::RATES_ON_THEIR_OWN_LOSSES.into(),
    ];
    let readable = |a: &&Application| a.primary && a.silence.is_none();
    let needed: Vec<&str> = applications.iter().filter(readable).map(|a| a.name.as_str()).collect();
    let answer =
        put_together(QuestionId::Q5, verdict(results, &applications, &claims), &needed, &claims, &limits);
    let chapter = Chapter {
        id: "q5".into(),
        question: Some(QuestionId::Q5),
        heading: "Where does granular MoE outperform coarse MoE?".into(),
        prose: vec![format!(
            "Granularity {} against granularity 1, at equal total and active parameters, on the same data: by domain of text, and on \
             three tasks with exact answers.",
            results.config.model.primary_granularity
        )],
        figures,
        tables,
        method: vec![
            "Recall: key–value pairs in context, then a key; the answer is its value. Facts: random names and values, seen many \
             times; counted in bits recalled per parameter. Arithmetic: modulo a prime, tested on ordered pairs never seen; the same pair the other way round \
             may have been."
                .into(),
        ],
        limits,
    };
    Ok((answer, chapter))
}

/// The granular MoE of the tasks: of the primary granularity if the tasks have it, otherwise the finest they have.
fn granular_task(results: &Results) -> Family {
    let granularities = &results.config.tasks.granularities;
    let primary = results.config.model.primary_granularity;
    let granularity =
        if granularities.contains(&primary) { primary } else { *granularities.last().expect("two or more") };
    Family::Moe { granularity }
}

/// Share of right answers on a task.
fn accuracy(m: &Measures) -> Option<f64> {
    m.task.as_ref().map(|t| t.accuracy)
}

/// Bits of facts recalled for each parameter; none for the other tasks.
fn bits_per_parameter(m: &Measures) -> Option<f64> {
    m.task.as_ref().and_then(|t| t.bits_per_parameter)
}

/// Every application with its differences: the text as a whole, the three tasks, then the single domains.
fn applications(results: &Results) -> Vec<Application> {
    let granular = granular_task(results);
    let tasks = Workload::TASKS.into_iter().map(|task| {
        let (metric, unit, pick): (_, _, fn(&Measures) -> Option<f64>) = match task {
            Workload::Facts => ("bits of facts recalled", "bits/parameter", bits_per_parameter),
            _ => ("accuracy", "accuracy", accuracy),
        };
        Application {
            name: task_in_words(task).to_owned(),
            metric,
            unit,
            more_is_better: true,
            table: "q5_tasks",
            primary: true,
            difference: subtract(&results.values(task, granular, pick), &results.values(task, COARSE, pick)),
            margin: (task != Workload::Facts).then_some(results.config.margins.accuracy),
            silence: silence(results, task),
        }
    });
    let tasks: Vec<Application> = tasks.collect();
    let domains = results.dataset.domain_names.iter().enumerate().map(|(domain, name)| Application {
        name: name.clone(),
        metric: "validation loss",
        unit: "nats/token",
        more_is_better: false,
        table: "q5_domains",
        primary: false,
        difference: results
            .difference(results.primary(), COARSE, |m| m.language.as_ref().map(|l| l.loss_by_domain[domain])),
        margin: Some(results.config.margins.loss),
        silence: None,
    });
    // At the study's own rate for both it would be the first application again.
    let differ = results.best_rates_differ(results.primary(), COARSE);
    let at_best = differ.then(|| text_at_best_rates(results));
    [text(results)].into_iter().chain(tasks).chain(at_best).chain(domains).collect()
}

/// Whether a task can tell the two MoE apart, and if not why. It cannot if no seed of either is clearly above guessing, nor if
/// both have solved it in every seed.
fn silence(results: &Results, task: Workload) -> Option<Silence> {
    let accuracies = |family| results.values(task, family, accuracy);
    let both: Vec<f64> = [COARSE, granular_task(results)].into_iter().flat_map(accuracies).collect();
    let chance = results.tasks.get(&task).map_or(0.0, |facts| facts.chance_accuracy);
    let learned = chance + LEARNED_SHARE * (1.0 - chance);
    if !both.iter().any(|a| *a >= learned) {
        Some(Silence::NotLearned)
    } else if both.iter().all(|a| *a >= SOLVED) {
        Some(Silence::Solved)
    } else {
        None
    }
}

/// Takes back what was decided about applications that can tell nothing, and says so in their place. They were counted by the
/// correction all the same: which tasks are learned is known only afterwards.
fn silenced(applications: &[Application], claims: Vec<Claim>) -> Vec<Claim> {
    let pairs = applications.iter().zip(claims);
    pairs
        .map(|(application, claim)| match application.silence {
            None => claim,
            Some(silence) => {
                let why = match silence {
                    Silence::NotLearned => "neither has learned it beyond guessing",
                    Silence::Solved => "both have solved it",
                };
                let text = format!("{} says nothing about granular and coarse MoE: {why}", application.name);
                let evidence = moescope_base::Evidence { claim: text, ..claim.evidence };
                Claim { decision: Decision::Open, evidence, ..claim }
            }
        })
        .collect()
}

/// Share of right answers from which a task counts as solved.
const SOLVED: f64 = 0.99;

/// How far above chance accuracy must be for a task to count as learned at all, as a share of the way to 1.
const LEARNED_SHARE: f64 = 0.1;

/// The text as a whole, every domain weighing equally.
fn text(results: &Results) -> Application {
    Application {
        name: "text as a whole".into(),
        metric: "validation loss",
        unit: "nats/token",
        more_is_better: false,
        table: "families",
        primary: true,
        difference: results.difference(results.primary(), COARSE, crate::results::loss),
        margin: Some(results.config.margins.loss),
        silence: None,
    }
}

/// The same, with each granularity at the learning rate that suits it best.
fn text_at_best_rates(results: &Results) -> Application {
    Application {
        name: "text as a whole with each at its best learning rate".into(),
        table: "rates",
        primary: false,
        difference: results.difference_at_best_rates(results.primary(), COARSE),
        ..text(results)
    }
}

/// A task as the report calls it.
fn task_in_words(task: Workload) -> &'static str {
    match task {
        Workload::Language => "language",
        Workload::Recall => "recall in context",
        Workload::Facts => "memorised facts",
        Workload::Arithmetic => "modular arithmetic",
    }
}

/// An application as a claim: the difference of granular and coarse MoE against zero.
fn draft(application: &Application) -> Draft {
    Draft {
        key: application.name.clone(),
        metric: application.metric,
        unit: application.unit,
        contrast: format!("{}: granular − coarse", application.name),
        null: "0: granularity makes no difference",
        table: application.table,
        values: application.difference.clone(),
        primary: application.primary,
        margin: application.margin,
        wording: compare(&format!("on {}, granular MoE", application.name), application.metric, "coarse MoE"),
    }
}

/// Rule: the verdict lists where granular is decided to be better, worse, and the same, and what stays open.
fn verdict(results: &Results, applications: &[Application], claims: &[Claim]) -> String {
    let outcome =
        |(application, claim): &(&Application, &Claim)| match (claim.decision, application.more_is_better) {
            (Decision::Above, true) | (Decision::Below, false) => "better",
            (Decision::Above, false) | (Decision::Below, true) => "worse",
            (Decision::Same, _) => "same",
            (Decision::Open, _) => "open",
        };
    let silent = |why: Silence| -> Vec<String> {
        applications.iter().filter(|a| a.silence == Some(why)).map(|a| a.name.clone()).collect()
    };
    let (unlearned, solved) = (silent(Silence::NotLearned), silent(Silence::Solved));
    let names = |wanted: &str| -> Vec<String> {
        let pairs = applications.iter().zip(claims).filter(|(a, _)| a.silence.is_none());
        pairs
            .filter(|pair| outcome(pair) == wanted)
            .map(|(application, _)| application.name.clone())
            .collect()
    };
    let better = match names("better") {
        none if none.is_empty() => {
            "In no application is granular MoE decided to outperform coarse MoE at this budget.".to_owned()
        }
        some => format!("Granular MoE outperforms coarse MoE on {}.", enumerate(&some)),
    };
    let rest = [
        ("worse", "It does worse on"),
        ("same", "It does as well, within the margin, on"),
        ("open", "Not decided:"),
    ];
    let rest = rest.iter().filter_map(|(kind, text)| {
        let names = names(kind);
        (!names.is_empty()).then(|| format!("{text} {}.", enumerate(&names)))
    });
    let caution = (!unlearned.is_empty()).then(|| {
        format!(
            "Neither has learned {} beyond guessing, so nothing can be read from it.",
            enumerate(&unlearned)
        )
    });
    let ceiling = (!solved.is_empty())
        .then(|| format!("Both solve {} completely, so it cannot tell them apart.", enumerate(&solved)));
    let warnings = ceiling.into_iter().chain(caution).chain(super::weak_baseline(results));
    [better].into_iter().chain(rest).chain(warnings).collect::<Vec<_>>().join(" ")
}

/// Difference in loss by domain, with the number of domains on which it is decided either way.
fn domain_exhibit(
    results: &Results,
    applications: &[Application],
    claims: &[Claim],
) -> Result<(Table, Figure), StudyError> {
    let rows: Vec<&Application> = applications.iter().filter(|a| a.table == "q5_domains").collect();
    let mut columns =
        vec![Column::key("domain", "domain of the text", rows.iter().map(|a| a.name.clone()).collect())];
    let values: Vec<Vec<f64>> = rows.iter().map(|a| a.difference.clone()).collect();
    columns.extend(Estimates::of(&values)?.columns(
        "difference",
        "nats/token",
        "granular − coarse, below zero is better",
    ));
    let table = Table::new("q5_domains", "Granular minus coarse MoE by domain", "Paired by seed.", columns)?;
    let lower = applications
        .iter()
        .zip(claims)
        .filter(|(a, c)| a.table == "q5_domains" && c.decision == Decision::Below)
        .count();
    let higher = applications
        .iter()
        .zip(claims)
        .filter(|(a, c)| a.table == "q5_domains" && c.decision == Decision::Above)
        .count();
    let figure = Figure {
        id: "q5_domains".into(),
        title: format!(
            "Of {} domains granular MoE is decided to be better on {lower} and worse on {higher} ({})",
            rows.len(),
            results.primary()
        ),
        caption: "Difference in validation loss, granular − coarse; left of the line granular is better. Bars are 95 % \
                  t-intervals over seeds, not corrected for the number of domains; the decisions are."
            .into(),
        table: "q5_domains".into(),
        kind: FigureKind::Forest { label: "domain".into(), estimate: "difference".into(), reference: Some(0.0) },
    };
    Ok((table, figure))
}

/// Accuracy of every family on every task beside that of guessing, and bits of facts for each parameter.
fn task_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let families: Vec<Family> = [Family::Dense { times: 1 }]
        .into_iter()
        .chain(results.config.tasks.granularities.iter().map(|g| Family::Moe { granularity: *g }))
        .collect();
    let mut tasks = Vec::new();
    let mut names = Vec::new();
    let mut chance = Vec::new();
    let (mut accuracies, mut bits) = (Vec::new(), Vec::new());
    for task in Workload::TASKS {
        for family in &families {
            tasks.push(task_in_words(task).to_owned());
            names.push(family.to_string());
            chance.push(results.tasks.get(&task).map_or(f64::NAN, |t| t.chance_accuracy));
            accuracies.push(results.values(task, *family, accuracy));
            bits.push(results.values(task, *family, bits_per_parameter));
        }
    }
    let mut columns = vec![Column::key("task", "task", tasks), Column::key("family", "kind of model", names)];
    columns.extend(Estimates::of(&accuracies)?.columns("accuracy", "share", "answers that are right"));
    columns.push(Column::null("accuracy", "share", "accuracy of guessing", chance));
    columns.extend(Estimates::of(&bits)?.columns(
        "bits",
        "bits/parameter",
        "bits of facts recalled per parameter, all counted",
    ));
    let table =
        Table::new("q5_tasks", "Tasks with exact answers", "One model per task, family and seed.", columns)?;
    let figure = Figure {
        id: "q5_tasks".into(),
        title: task_finding(results, &families),
        caption: "Share of right answers; arithmetic on ordered pairs never seen, facts on those seen. Bars are 95 % t-intervals over seeds."
            .into(),
        table: "q5_tasks".into(),
        kind: FigureKind::Bars { x: "task".into(), y: "accuracy".into(), series: Some("family".into()) },
    };
    Ok((table, figure))
}

/// Between which mean accuracies the families lie on each task: a description, not a claim, and no family is called best.
fn task_finding(results: &Results, families: &[Family]) -> String {
    let mean = |task, family| crate::results::mean(&results.values(task, family, accuracy));
    let range = |task: Workload| {
        let best = families
            .iter()
            .max_by(|a, b| mean(task, **a).total_cmp(&mean(task, **b)))
            .expect("there are families");
        let worst = families
            .iter()
            .min_by(|a, b| mean(task, **a).total_cmp(&mean(task, **b)))
            .expect("there are families");
        let percent = |family: &Family| format!("{:.1}", 100.0 * mean(task, *family));
        format!("{} {} to {} %", task_in_words(task), percent(worst), percent(best))
    };
    format!("Mean accuracy over the families: {}", enumerate(&Workload::TASKS.map(range)))
}
