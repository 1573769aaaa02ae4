//! The line below arrivals.

/// A straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Its value at 0.
    pub at_zero: f64,
    /// How much it grows with each step.
    pub slope: f64,
}

/// The line that is above none of the points and, of those, has the least distance to all of them in sum. The points are in
/// the order of their first coordinate, which never repeats; `None` of less than two.
///
/// Whatever delays a frame beside its link makes it late and never early. So the truth is below all arrivals and touches
/// those that nothing delayed, of which one near either end is enough. (S. Moon, P. Skelly, D. Towsley, "Estimation and
/// removal of clock skew from network delay measurements", INFOCOM 1999, who solve it as a linear program. The optimum is
/// the edge of the points' lower convex hull above or below their mean.)
pub fn lower_envelope(points: &[(f64, f64)]) -> Option<Line> {
    if points.len() < 2 {
        return None;
    }
    let mut hull: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for &point in points {
        while let [.., before, last] = hull[..]
            && turn(before, last, point) <= 0.0
        {
            hull.pop();
        }
        hull.push(point);
    }
    let mean = points.iter().map(|(x, _)| x).sum::<f64>() / points.len() as f64;
    let edge = hull.windows(2).find(|edge| edge[1].0 >= mean).or_else(|| hull.windows(2).last())?;
    let [(x0, y0), (x1, y1)] = [edge[0], edge[1]];
    let slope = (y1 - y0) / (x1 - x0);
    Some(Line { at_zero: y0 - slope * x0, slope })
}

/// More than zero where the way from `a` over `b` to `c` turns left.
fn turn(a: (f64, f64), b: (f64, f64), c: (f64, f64)) -> f64 {
    (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn late_points_do_not_matter_as_long_as_some_near_both_ends_are_in_time() {
        let late = [0.0, 900.0, 30.0, 0.0, 4000.0, 4000.0, 80.0, 0.0, 500.0];
        let points: Vec<(f64, f64)> =
            late.iter().enumerate().map(|(k, late)| (k as f64, 100.0 + 10.0 * k as f64 + late)).collect();
        assert_eq!(lower_envelope(&points), Some(Line { at_zero: 100.0, slope: 10.0 }));
    }

    #[test]
    fn it_takes_two_points() {
        assert_eq!(lower_envelope(&[]), None);
        assert_eq!(lower_envelope(&[(3.0, 4.0)]), None);
        assert_eq!(lower_envelope(&[(1.0, 5.0), (2.0, 7.0)]), Some(Line { at_zero: 3.0, slope: 2.0 }));
    }

    proptest! {
        #[test]
        fn no_point_is_below_it_and_two_are_on_it(ys in prop::collection::vec(0.0..1e6f64, 2..60)) {
            let points: Vec<(f64, f64)> = ys.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
            let line = lower_envelope(&points).expect("two points");
            let above: Vec<f64> = points.iter().map(|(x, y)| y - line.at_zero - line.slope * x).collect();
            prop_assert!(above.iter().all(|above| *above > -1e-3));
            prop_assert!(above.iter().filter(|above| **above < 1e-3).count() >= 2);
        }
    }
}
