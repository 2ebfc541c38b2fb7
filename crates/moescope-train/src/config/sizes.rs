//! The size of a feed-forward layer, in whichever of four ways it is given.

use std::ops::Range;

use toml::Spanned;

use super::syntax::Problem;

/// Number, width and use of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Experts {
    pub(super) experts: usize,
    pub(super) expert_width: usize,
    pub(super) per_token: usize,
}

/// What the keys of a file say about a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Neurons that a token passes through.
    pub(super) active: usize,
    /// Neurons in all, where something says so.
    pub(super) total: Option<usize>,
    /// Experts, where something says so.
    pub(super) experts: Option<Experts>,
}

/// The keys of a file that speak of sizes.
pub(super) struct SizeKeys {
    pub(super) d_ff: Option<Spanned<usize>>,
    pub(super) expansion: Option<Spanned<usize>>,
    pub(super) granularity: Option<Spanned<usize>>,
    pub(super) experts: Option<Spanned<usize>>,
    pub(super) expert_width: Option<Spanned<usize>>,
    pub(super) per_token: Option<Spanned<usize>>,
    pub(super) total_width: Option<Spanned<usize>>,
    pub(super) active_share: Option<Spanned<f64>>,
}

/// Largest value of any key.
const MOST: usize = 1 << 30;

/// The four ways, as shown in messages.
const FORMS: &str = "{d_ff, expansion, granularity}, {experts, expert_width, per_token}, \
                     {total_width, d_ff, experts} or {expert_width, active_share, experts}";

impl SizeKeys {
    /// Sizes from the first complete set of keys, after checking that all other keys agree with it.
    pub(super) fn resolve(&self, section: &Range<usize>) -> Result<Sizes, Problem> {
        self.require_positive()?;
        let ways = [Self::by_granularity, Self::by_count, Self::by_total, Self::by_share];
        for way in ways {
            if let Some(experts) = way(self)? {
                self.require_agreement(&experts)?;
                let active = experts.per_token * experts.expert_width;
                let total = Some(experts.experts * experts.expert_width);
                return Ok(Sizes { active, total, experts: Some(experts) });
            }
        }
        self.without_experts(section)
    }

    /// A dense layer needs no experts: `d_ff`, and `expansion` for the wide ones, are enough.
    fn without_experts(&self, section: &Range<usize>) -> Result<Sizes, Problem> {
        let others =
            [&self.granularity, &self.experts, &self.expert_width, &self.per_token, &self.total_width];
        let only_width = others.iter().all(|key| key.is_none()) && self.active_share.is_none();
        match &self.d_ff {
            Some(d_ff) if only_width => {
                let active = *d_ff.get_ref();
                let total = self.expansion.as_ref().map(|expansion| active * expansion.get_ref());
                Ok(Sizes { active, total, experts: None })
            }
            _ => Err(self.incomplete(section)),
        }
    }

    /// The error that names what was given and the sets that would do.
    pub(super) fn incomplete(&self, section: &Range<usize>) -> Problem {
        let given: Vec<&str> = self.given().into_iter().map(|(key, _, _)| key).collect();
        let given = if given.is_empty() { "no size".into() } else { given.join(", ") };
        let share = self.active_share.as_ref().map_or("", |_| " and active_share");
        Problem::new(section.clone(), format!("found {given}{share}, wanted one of the sets {FORMS}"))
    }

    fn given(&self) -> Vec<(&'static str, usize, Range<usize>)> {
        let keys = [
            ("d_ff", &self.d_ff),
            ("expansion", &self.expansion),
            ("granularity", &self.granularity),
            ("experts", &self.experts),
            ("expert_width", &self.expert_width),
            ("per_token", &self.per_token),
            ("total_width", &self.total_width),
        ];
        let given = keys.into_iter().filter_map(|(name, key)| Some((name, key.as_ref()?)));
        given.map(|(name, key)| (name, *key.get_ref(), key.span())).collect()
    }

    fn require_positive(&self) -> Result<(), Problem> {
        if let Some((name, _, span)) = self.given().into_iter().find(|(_, value, _)| *value == 0) {
            return Err(Problem::new(span, format!("`{name}` is 0, wanted 1 or more")));
        }
        // A limit far above any model keeps products of sizes from running over.
        if let Some((name, found, span)) = self.given().into_iter().find(|(_, value, _)| *value > MOST) {
            return Err(Problem::new(span, format!("`{name}` is {found}, wanted 1 to {MOST}")));
        }
        match &self.active_share {
            Some(share) if !(*share.get_ref() > 0.0 && *share.get_ref() <= 1.0) => {
                let found = share.get_ref();
                Err(Problem::new(
                    share.span(),
                    format!("`active_share` is {found}, wanted above 0 and up to 1"),
                ))
            }
            _ => Ok(()),
        }
    }

    fn by_granularity(&self) -> Result<Option<Experts>, Problem> {
        let (Some(d_ff), Some(expansion), Some(granularity)) =
            (&self.d_ff, &self.expansion, &self.granularity)
        else {
            return Ok(None);
        };
        let (width, parts) = (*d_ff.get_ref(), *granularity.get_ref());
        let expert_width = exact(width, parts).ok_or_else(|| {
            let wanted = divisors(width);
            let found =
                format!("`granularity` is {parts}, which does not divide `d_ff` = {width}; wanted {wanted}");
            Problem::new(granularity.span(), found)
        })?;
        Ok(Some(Experts { experts: expansion.get_ref() * parts, expert_width, per_token: parts }))
    }

    fn by_count(&self) -> Result<Option<Experts>, Problem> {
        let (Some(experts), Some(width), Some(per_token)) =
            (&self.experts, &self.expert_width, &self.per_token)
        else {
            return Ok(None);
        };
        let (found, most) = (*per_token.get_ref(), *experts.get_ref());
        if found > most {
            let problem = format!("`per_token` is {found}, wanted 1 to {most}, the number of experts");
            return Err(Problem::new(per_token.span(), problem));
        }
        Ok(Some(Experts { experts: most, expert_width: *width.get_ref(), per_token: found }))
    }

    fn by_total(&self) -> Result<Option<Experts>, Problem> {
        let (Some(total), Some(d_ff), Some(experts)) = (&self.total_width, &self.d_ff, &self.experts) else {
            return Ok(None);
        };
        let (total_width, active, count) = (*total.get_ref(), *d_ff.get_ref(), *experts.get_ref());
        if active > total_width {
            let problem = format!("`d_ff` is {active}, wanted at most `total_width` = {total_width}");
            return Err(Problem::new(d_ff.span(), problem));
        }
        let expert_width = exact(total_width, count).ok_or_else(|| {
            let problem =
                format!("`experts` is {count}, which does not divide `total_width` = {total_width}");
            Problem::new(experts.span(), format!("{problem}; wanted {}", divisors(total_width)))
        })?;
        let per_token = exact(active, expert_width).ok_or_else(|| {
            let problem = format!("`d_ff` is {active}, wanted a multiple of {expert_width}");
            Problem::new(d_ff.span(), format!("{problem}, the width of one of the {count} experts"))
        })?;
        Ok(Some(Experts { experts: count, expert_width, per_token }))
    }

    fn by_share(&self) -> Result<Option<Experts>, Problem> {
        let (Some(width), Some(share), Some(experts)) =
            (&self.expert_width, &self.active_share, &self.experts)
        else {
            return Ok(None);
        };
        let count = *experts.get_ref();
        let slots = share.get_ref() * count as f64;
        let per_token = slots.round();
        if (slots - per_token).abs() > 1e-6 || per_token < 1.0 {
            let found =
                format!("`active_share` is {} of {count} experts, which makes {slots}", share.get_ref());
            return Err(Problem::new(share.span(), format!("{found}; wanted a whole number, 1 or more")));
        }
        Ok(Some(Experts { experts: count, expert_width: *width.get_ref(), per_token: per_token as usize }))
    }

    /// Every key must say the same as the sizes that were found.
    fn require_agreement(&self, sizes: &Experts) -> Result<(), Problem> {
        let Experts { experts, expert_width, per_token } = *sizes;
        let follows =
            format!("follows from {experts} experts of width {expert_width}, {per_token} per token");
        for (name, found, span) in self.given() {
            let (wanted, agrees) = match name {
                "d_ff" => (per_token * expert_width, found == per_token * expert_width),
                "expansion" => (experts / per_token, found * per_token == experts),
                "granularity" | "per_token" => (per_token, found == per_token),
                "experts" => (experts, found == experts),
                "expert_width" => (expert_width, found == expert_width),
                _ => (experts * expert_width, found == experts * expert_width),
            };
            if !agrees {
                let whole =
                    if name == "expansion" && experts % per_token != 0 { " and a remainder" } else { "" };
                let problem = format!("`{name}` is {found}, but {wanted}{whole} {follows}; make them agree");
                return Err(Problem::new(span, problem));
            }
        }
        self.require_share(sizes, &follows)
    }

    fn require_share(&self, sizes: &Experts, follows: &str) -> Result<(), Problem> {
        let wanted = sizes.per_token as f64 / sizes.experts as f64;
        match &self.active_share {
            Some(share) if (share.get_ref() - wanted).abs() > 1e-6 => {
                let found = share.get_ref();
                let problem = format!("`active_share` is {found}, but {wanted} {follows}; make them agree");
                Err(Problem::new(share.span(), problem))
            }
            _ => Ok(()),
        }
    }
}

fn exact(whole: usize, parts: usize) -> Option<usize> {
    whole.is_multiple_of(parts).then(|| whole / parts)
}

/// The divisors of a size that a person would choose from: the smallest dozen.
fn divisors(size: usize) -> String {
    // More candidates than these would take long to try and help nobody.
    let all = (1..=size.min(1 << 20)).filter(|part| size.is_multiple_of(*part)).take(12);
    let shown: Vec<String> = all.map(|part| part.to_string()).collect();
    format!("a divisor of it: {}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(values: [Option<usize>; 7], share: Option<f64>) -> SizeKeys {
        let mut spanned = values.into_iter().map(|value| value.map(|value| Spanned::new(0..0, value)));
        let mut next = || spanned.next().flatten();
        SizeKeys {
            d_ff: next(),
            expansion: next(),
            granularity: next(),
            experts: next(),
            expert_width: next(),
            per_token: next(),
            total_width: next(),
            active_share: share.map(|share| Spanned::new(0..0, share)),
        }
    }

    proptest! {
        /// The four ways of saying the same give the same sizes, alone and all together.
        #[test]
        fn the_four_ways_are_equivalent(expansion in 1usize..9, granularity in 1usize..9, width in 1usize..40) {
            let (d_ff, experts) = (granularity * width, expansion * granularity);
            let total = experts * width;
            let share = 1.0 / expansion as f64;
            let ways = [
                keys([Some(d_ff), Some(expansion), Some(granularity), None, None, None, None], None),
                keys([None, None, None, Some(experts), Some(width), Some(granularity), None], None),
                keys([Some(d_ff), None, None, Some(experts), None, None, Some(total)], None),
                keys([None, None, None, Some(experts), Some(width), None, None], Some(share)),
                keys([d_ff, expansion, granularity, experts, width, granularity, total].map(Some), Some(share)),
            ];
            for way in ways {
                let sizes = way.resolve(&(0..0)).unwrap();
                prop_assert_eq!(sizes.experts, Some(Experts { experts, expert_width: width, per_token: granularity }));
                prop_assert_eq!((sizes.active, sizes.total), (d_ff, Some(total)));
            }
        }

        /// Whatever is added to a complete set either agrees or is refused.
        #[test]
        fn a_contradiction_is_refused(which in 0usize..7, off in 1usize..50) {
            let right = [64, 4, 4, 16, 16, 4, 256];
            let mut values = right.map(Some);
            values[which] = Some(right[which] + off);
            prop_assert!(keys(values, None).resolve(&(0..0)).is_err());
            prop_assert!(keys(right.map(Some), Some(0.25 + off as f64 / 100.0)).resolve(&(0..0)).is_err());
        }
    }

    #[test]
    fn sizes_beyond_any_model_are_refused_before_they_are_multiplied() {
        for size in [MOST + 1, usize::MAX] {
            let all = keys([Some(size), Some(size), Some(size), None, None, None, None], None);
            assert!(all.resolve(&(0..0)).is_err());
            let counted = keys([None, None, None, Some(size), Some(size), Some(size), None], None);
            assert!(counted.resolve(&(0..0)).is_err());
        }
    }

    #[test]
    fn a_width_alone_is_dense() {
        let sizes = keys([Some(64), Some(4), None, None, None, None, None], None).resolve(&(0..0)).unwrap();
        assert_eq!(sizes, Sizes { active: 64, total: Some(256), experts: None });
    }
}
