//! The instrument `spectrum`.

use moescope_base::{Column, Figure, FigureKind, HookPoint, Seed, Site, Table};

use rand::seq::SliceRandom;

use super::METHOD;
use super::control::{ControlShare, control_share};
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::sequences::drawn;
use crate::sparse_dictionary::sites::{Gathered, SEQUENCES, gather, sites};
use crate::spectrum::{Spectrum, spectrum, white_effective_rank, white_participation_ratio};
use crate::statistics::{Bootstrap, holm, jackknife};
use crate::tabulate::bootstrap_columns;
use crate::wording::counted;
use crate::{AnalysisError, Sample, check};

/// Blocks, at most: evenly spaced, the last among them.
const BLOCKS: usize = 8;
/// Rows of each site, at most; of all sites as many.
const ROWS: usize = 384;
/// Rows of a site below which it is left out.
const LEAST: usize = 64;
/// Groups of documents that are left out in turn.
const GROUPS: usize = 8;

/// The instrument `spectrum`.
///
/// Sites are the stream after a block, what its feed-forward layer adds, and the answers of the expert that most tokens choose, as in the
/// instrument `dictionary`: what a dictionary can find there is bounded by how many directions are in use.
pub struct StreamSpectrum;

const FEW: Reading = Reading {
    says: "the stream after block 1 fills fewer than twelve directions",
    table: "spectrum_of_sites",
    rows: &[("site", "blocks.1.hook_resid_post")],
    value: "effective_rank",
    rule: Rule::LessThan(12.0),
};
const LOOKS: Reading = Reading {
    says: "routers look where their input varies",
    table: "control_share",
    rows: &[],
    value: "share",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FlatStream, FEW),
    Promise::is_silent(Property::TokenRoutes, FEW),
    Promise::finds(Property::TokenRoutes, LOOKS),
    Promise::is_silent(Property::ScatteredRouters, LOOKS),
];

impl Instrument for StreamSpectrum {
    fn about(&self) -> About {
        About {
            name: "spectrum",
            group: Group::Representation,
            question: "How many directions do the stream, a layer and an expert fill, and how much of a router's input lies where it looks?",
            null: "white noise with as many rows; random subspaces of the rank of the router",
            does_not_show: "what the directions mean, nor whether they matter; a few of large variance hide all others",
            source: "effective rank, Roy and Vetterli 2007; participation ratio, Gao et al. 2017; control and content, Yuan et al. 2026 (arXiv 2604.17837)",
            passes: "one for each of at most 8 blocks and for each routed layer, of at most 256 sequences",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let samples = drawn(material, METHOD, SEQUENCES)?;
        let spectra = spectra(material, &samples)?;
        let mut finding = Finding { tables: vec![table(&spectra)?], figures: vec![figure(&spectra)] };
        let shares = shares(material, &samples)?;
        if !shares.is_empty() {
            finding.tables.push(share_table(&shares)?);
            finding.figures.push(share_figure(&shares));
        }
        Ok(finding)
    }
}

/// The spectrum of one site, with intervals over documents.
///
/// - **Unit and range:** dimensions, from 1 to the smaller of rows less one and the width.
/// - **Null:** white noise with as many rows. Both numbers grow with the number of rows, so that all sites have the same.
/// - **Does not show:** directions of little variance, which may matter most.
struct SiteSpectrum {
    site: HookPoint,
    whole: Spectrum,
    rank: Bootstrap,
    ratio: Bootstrap,
}

/// Spectra of all sites that vary, at equal numbers of rows.
///
/// # Errors
/// If no site has 64 rows that vary, or they are of too few documents.
fn spectra(material: &mut Material<'_>, samples: &[Sample]) -> Result<Vec<SiteSpectrum>, AnalysisError> {
    let mut kept: Vec<(HookPoint, Rows)> = Vec::new();
    for points in sites(material, BLOCKS)? {
        // Only the rows that can be looked at are kept of each block.
        let gathered = gather(material, samples, &points)?;
        let whole = gathered.into_iter().filter(|site| site.varies() && site.ids.len() >= LEAST);
        kept.extend(whole.map(|site| (site.point, Rows::of(&site).spread(ROWS))));
    }
    check::at_least(METHOD, "sites with 64 rows that vary", kept.len(), 1)?;
    let rows = kept.iter().map(|(_, site)| site.documents.len()).min().unwrap_or(0);
    let seed = material.seed.child("groups of documents");
    kept.into_iter().map(|(point, site)| of_site(point, &site.spread(rows), seed)).collect()
}

fn of_site(site: HookPoint, rows: &Rows, seed: Seed) -> Result<SiteSpectrum, AnalysisError> {
    let Directions { whole, rank, ratio } = directions(&rows.data, rows.width, &rows.documents, seed)?;
    Ok(SiteSpectrum { site, whole, rank, ratio })
}

/// A spectrum with intervals over documents.
pub(crate) struct Directions {
    /// Of all rows.
    pub(crate) whole: Spectrum,
    /// Effective rank.
    pub(crate) rank: Bootstrap,
    /// Participation ratio.
    pub(crate) ratio: Bootstrap,
}

/// The spectrum of `data[row, width]`, the rows of these documents; intervals by leaving out at most eight groups of documents in turn, which
/// the seed deals.
///
/// # Errors
/// As [`spectrum`], or with fewer than four documents.
pub(crate) fn directions(
    data: &[f32],
    width: usize,
    documents: &[u32],
    seed: Seed,
) -> Result<Directions, AnalysisError> {
    let mut names = documents.to_vec();
    names.sort_unstable();
    names.dedup();
    check::documents(METHOD, names.len())?;
    let groups = names.len().min(GROUPS);
    // Dealt by chance: neighbours may be of one domain, and would leave it out as a whole.
    let mut dealt: Vec<usize> = (0..names.len()).map(|at| at % groups).collect();
    dealt.shuffle(&mut seed.rng());
    let group = |document: &u32| dealt[names.binary_search(document).expect("a document of the list")];
    let of = |left_out: usize| {
        let kept =
            data.chunks_exact(width).zip(documents).filter(|(_, document)| group(document) != left_out);
        let data: Vec<f32> = kept.flat_map(|(row, _)| row).copied().collect();
        // All rows are taken, so that nothing is drawn.
        spectrum(&data, width, data.len() / width, Seed(0))
    };
    let whole = of(groups)?;
    let without: Vec<Spectrum> = (0..groups).map(of).collect::<Result<_, _>>()?;
    // On a scale of ratios, so that no interval leaves the range.
    let interval = |pick: fn(&Spectrum) -> f64| {
        let without: Vec<f64> = without.iter().map(|spectrum| pick(spectrum).ln()).collect();
        let found = jackknife(pick(&whole).ln(), &without, names.len());
        let estimate = pick(&whole);
        let standard_error = estimate * found.standard_error;
        Bootstrap { estimate, low: found.low.exp().max(1.0), high: found.high.exp(), standard_error, ..found }
    };
    let (rank, ratio) = (interval(|s| s.effective_rank), interval(|s| s.participation_ratio));
    Ok(Directions { whole, rank, ratio })
}

/// How much of its input each router that scores can see.
///
/// # Errors
/// If weights cannot be read, the subject cannot answer, or there are too few documents.
fn shares(
    material: &mut Material<'_>,
    samples: &[Sample],
) -> Result<Vec<(usize, ControlShare)>, AnalysisError> {
    let mut found = Vec::new();
    let layers = material.subject.shape().routed_layers();
    let permutations = material.permutations_for(METHOD, layers.len());
    for layer in layers {
        let Some(parameters) = material.subject.parameters() else { break };
        let Some(router) = parameters.router(layer)? else { continue };
        let inputs = gather(material, samples, &[HookPoint::block(Site::MlpIn, layer)])?;
        let permutations = permutations.index(layer);
        for input in inputs.iter().filter(|input| input.varies()) {
            let rows = Rows::of(input).spread(ROWS);
            let share = control_share(
                &rows.data,
                &rows.documents,
                &router,
                permutations,
                material.resampling(METHOD),
            )?;
            found.extend(share.map(|share| (layer, share)));
        }
    }
    Ok(found)
}

/// Rows of a site with their documents.
struct Rows {
    width: usize,
    /// `[row, width]`.
    data: Vec<f32>,
    documents: Vec<u32>,
}

impl Rows {
    fn of(site: &Gathered) -> Rows {
        let (width, documents) = (site.rows.columns(), site.documents.clone());
        Rows { width, data: site.rows.data().to_vec(), documents }
    }

    /// So many of them at most, evenly spread.
    fn spread(&self, most: usize) -> Rows {
        let (all, count) = (self.documents.len(), most.min(self.documents.len()));
        let chosen: Vec<usize> = (0..count).map(|at| at * all / count).collect();
        let data = chosen.iter().flat_map(|row| &self.data[row * self.width..][..self.width]).copied();
        let documents = chosen.iter().map(|row| self.documents[*row]).collect();
        Rows { width: self.width, data: data.collect(), documents }
    }
}

fn table(spectra: &[SiteSpectrum]) -> Result<Table, AnalysisError> {
    let count = |of: fn(&SiteSpectrum) -> usize| spectra.iter().map(|s| of(s) as i64).collect::<Vec<i64>>();
    let real = |of: fn(&SiteSpectrum) -> f64| spectra.iter().map(of).collect::<Vec<f64>>();
    let values = |of: fn(&SiteSpectrum) -> Bootstrap| spectra.iter().map(of).collect::<Vec<Bootstrap>>();
    let (unit, noise) = ("dimensions", "white noise with as many rows");
    let names = spectra.iter().map(|spectrum| spectrum.site.to_string()).collect();
    let mut columns = vec![
        Column::key("site", "hook whose vectors", names),
        Column::count("rows", "rows", "vectors", count(|s| s.whole.rows)),
        Column::count("dimensions", unit, "coordinates of each vector", count(|s| s.whole.dimensions)),
    ];
    let meaning = "exp of the entropy of the eigenvalues of the covariance";
    columns.extend(bootstrap_columns("effective_rank", unit, meaning, &values(|s| s.rank)));
    let white = real(|s| white_effective_rank(s.whole.rows, s.whole.dimensions));
    columns.push(Column::null("effective_rank", unit, noise, white));
    let meaning = "squared sum over sum of squares of the eigenvalues";
    columns.extend(bootstrap_columns("participation_ratio", unit, meaning, &values(|s| s.ratio)));
    let white = real(|s| white_participation_ratio(s.whole.rows, s.whole.dimensions));
    columns.push(Column::null("participation_ratio", unit, noise, white));
    columns.push(Column::estimate(
        "total_variance",
        "squared activation",
        "sum of the eigenvalues",
        real(|s| s.whole.total_variance),
    ));
    let method = "The same number of rows of each site, since both numbers grow with it; intervals by leaving out groups of documents in turn, \
                  with Student's t on a logarithmic scale. First tokens are left out. Does not show what the directions mean.";
    Ok(Table::new("spectrum_of_sites", "How many directions are in use", method, columns)?)
}

fn share_table(shares: &[(usize, ControlShare)]) -> Result<Table, AnalysisError> {
    let values: Vec<Bootstrap> = shares.iter().map(|(_, share)| share.share).collect();
    let count =
        |of: fn(&ControlShare) -> usize| shares.iter().map(|(_, s)| of(s) as i64).collect::<Vec<i64>>();
    let real = |of: fn(&ControlShare) -> f64| shares.iter().map(|(_, s)| of(s)).collect::<Vec<f64>>();
    let layers = shares.iter().map(|(layer, _)| *layer as i64).collect();
    let mut columns = vec![
        Column::integer_key("layer", "", "block, counted from 0", layers),
        Column::count(
            "rank",
            "dimensions",
            "of the differences between rows of the router",
            count(|share| share.rank),
        ),
        Column::count("width", "dimensions", "of its input", count(|share| share.width)),
    ];
    let meaning = "variance of the router's input along the differences between its rows";
    columns.extend(bootstrap_columns("share", "share of variance", meaning, &values));
    let null = "random subspaces of the same rank";
    columns.push(Column::null("share", "share of variance", null, real(|s| s.against.null_mean)));
    let meaning = "random subspaces that hold as much";
    columns.push(Column::p_value("share", meaning, real(|s| s.against.p_value)));
    let method = "What lies outside, and what all rows have in common, cannot move a choice. Routers that do not score, or see everything, are left out. Does not \
                  show how much of what they see moves choices.";
    Ok(Table::new("control_share", "How much of its input a router sees", method, columns)?)
}

fn figure(spectra: &[SiteSpectrum]) -> Figure {
    let told = |of: &SiteSpectrum| {
        let (rank, white) = (of.rank.estimate, white_effective_rank(of.whole.rows, of.whole.dimensions));
        format!("{rank:.1} at {} (white noise {white:.0})", of.site)
    };
    let least = spectra.iter().min_by(|a, b| a.rank.estimate.total_cmp(&b.rank.estimate)).map(told);
    let most = spectra.iter().max_by(|a, b| a.rank.estimate.total_cmp(&b.rank.estimate)).map(told);
    let title = match (least, most) {
        (Some(least), Some(most)) if least != most => format!("Directions in use: from {least} to {most}"),
        (Some(only), _) => format!("Directions in use: {only}"),
        _ => String::new(),
    };
    Figure {
        id: "spectrum_of_sites".into(),
        title,
        caption: "Effective rank with 95 % intervals over documents, beside white noise with as many rows."
            .into(),
        table: "spectrum_of_sites".into(),
        kind: FigureKind::Forest { label: "site".into(), estimate: "effective_rank".into(), reference: None },
    }
}

fn share_figure(shares: &[(usize, ControlShare)]) -> Figure {
    let p: Vec<f64> = shares.iter().map(|(_, share)| share.against.p_value).collect();
    let called = holm(&p);
    let beyond = called.iter().filter(|p| **p <= 0.05).count();
    let looking = shares.iter().zip(&called).filter(|(_, p)| **p <= 0.05).map(|(share, _)| share);
    let most = looking.max_by(|a, b| a.1.against.excess().total_cmp(&b.1.against.excess()));
    let example = most.map_or_else(String::new, |(layer, share)| {
        let (own, null) = (100.0 * share.share.estimate, 100.0 * share.against.null_mean);
        format!("; most in layer {layer}, which sees {own:.0} % of the variance, {null:.0} % at random")
    });
    Figure {
        id: "control_share".into(),
        title: format!(
            "In {beyond} of {} routers look where their input varies{example}",
            counted(shares.len(), "layer", "layers")
        ),
        caption: "Share of the variance of a router's input in the row space of its weights, with 95 % intervals over documents, beside random subspaces; by Holm at 5 %.".into(),
        table: "control_share".into(),
        kind: FigureKind::Bars { x: "layer".into(), y: "share".into(), series: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_model::{batch, model, own_text, rename, turn_basis};
    use crate::turn::Turn;
    use moescope_engine::Tensor;
    use moescope_model::{Model, ModelSubject};

    #[test]
    fn a_spectrum_and_its_interval_by_hand() {
        // Every document has the points (±3, 0) and (0, ±1): shares of the variance of 9 / 10 and 1 / 10, also without any of them.
        let points = [3.0, 0.0, -3.0, 0.0, 0.0, 1.0, 0.0, -1.0];
        let documents: Vec<u32> = (0..64).map(|row| 100 - row / 4).collect();
        let found = directions(&points.repeat(16), 2, &documents, Seed(1)).unwrap();
        let entropy = -(0.9_f64 * 0.9_f64.ln() + 0.1 * 0.1_f64.ln());
        for (found, wanted) in [(found.ratio, 1.0 / 0.82), (found.rank, entropy.exp())] {
            let all = [found.estimate, found.low, found.high];
            assert!(
                all.iter().all(|x| (x - wanted).abs() < 1e-9) && found.standard_error < 1e-9,
                "{found:?}"
            );
            assert_eq!(found.units, 16, "documents");
        }
        // A document that alone varies along another axis makes the interval wide.
        let mut lopsided = points.repeat(16);
        lopsided[1] = 30.0;
        let found = directions(&lopsided, 2, &documents, Seed(1)).unwrap();
        assert!(found.ratio.high > 1.2 * found.ratio.estimate && found.ratio.low >= 1.0, "{:?}", found.ratio);
        assert!(directions(&points, 2, &[0, 0, 1, 2], Seed(1)).is_err(), "three documents");
    }

    #[test]
    fn a_turned_basis_and_the_order_of_rows_change_nothing() {
        let mut rng = Seed(3).rng();
        let data: Vec<f32> = (0..60 * 8)
            .map(|at| (crate::matrix::normal(&mut rng) / (1.0 + (at % 8) as f64)) as f32)
            .collect();
        let documents: Vec<u32> = (0..60).map(|row| row / 5).collect();
        let plain = directions(&data, 8, &documents, Seed(1)).unwrap();
        let turned = directions(&Turn::new(8, Seed(5)).of_rows(&data), 8, &documents, Seed(1)).unwrap();
        let backwards: Vec<f32> = data.chunks_exact(8).rev().flatten().copied().collect();
        let names: Vec<u32> = documents.iter().rev().copied().collect();
        let reversed = directions(&backwards, 8, &names, Seed(1)).unwrap();
        for other in [turned, reversed] {
            let near = |a: Bootstrap, b: Bootstrap| {
                assert!(
                    (a.estimate - b.estimate).abs() < 1e-4 && (a.high - b.high).abs() < 1e-3,
                    "{a:?} {b:?}"
                );
            };
            near(plain.rank, other.rank);
            near(plain.ratio, other.ratio);
        }
    }

    #[test]
    fn rows_are_taken_evenly() {
        let site = Gathered {
            point: HookPoint::block(Site::ResidPost, 0),
            rows: Tensor::new([6, 1], (0..6).map(|row| row as f32).collect()).unwrap(),
            ids: vec![0; 6],
            documents: vec![5, 5, 6, 6, 7, 7],
        };
        let three = Rows::of(&site).spread(3);
        assert_eq!((three.data, three.documents), (vec![0.0, 2.0, 4.0], vec![5, 6, 7]));
        assert_eq!(Rows::of(&site).spread(9).documents.len(), 6);
    }

    /// Numbers of the stream and of the layer; an expert is another where names of experts are.
    fn told(model: Model, text: &Sample) -> Vec<f64> {
        let mut subject = ModelSubject::new(model);
        let mut material = Material::new(&mut subject, vec![batch(text)], Seed(1)).unwrap();
        (material.permutations, material.replicates) = (19, 50);
        let found = StreamSpectrum.run(&mut material).unwrap();
        let of = |table: &Table, column: &str| -> Vec<f64> {
            let column = table.column(column).unwrap();
            (0..table.rows()).filter_map(|row| column.data.number(row)).collect()
        };
        let [spectra, shares] = [&found.tables[0], &found.tables[1]];
        [of(spectra, "effective_rank"), of(spectra, "participation_ratio"), of(shares, "share")].concat()
    }

    #[test]
    fn names_of_experts_and_the_basis_of_the_stream_do_not_matter() {
        let plain = model(2, 3, |_, _| {});
        let text = own_text(&plain, 24, 5);
        let rotation = crate::matrix::random_rotation(plain.description().d_model, Seed(9));
        let own = told(plain, &text);
        assert!(own.len() >= 14, "{own:?}");
        let turned = model(2, 3, |name, data| turn_basis(name, data, &rotation, [16, 8]));
        for other in [told(model(2, 3, rename), &text), told(turned, &text)] {
            assert_eq!(own.len(), other.len());
            for (a, b) in own.iter().zip(&other) {
                assert!((a - b).abs() < 1e-3 * a.abs().max(1.0), "{own:?} {other:?}");
            }
        }
    }
}
