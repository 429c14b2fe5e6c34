//! Countries and networks beside the daemon's answers: by the files that the daemon's configuration names, which this command
//! reads itself.

use std::path::PathBuf;

use crate::tools::geoip::GeoIp;
use crate::tools::offline::warn;

/// These files, as an answer of the daemon names them. Says what is wrong with them.
pub(super) fn open(paths: &[PathBuf]) -> GeoIp {
    let mut geoip = GeoIp::open(paths);
    warn_of(&mut geoip);
    geoip
}

/// Says what is wrong with the files, where that was not said yet.
pub(super) fn warn_of(geoip: &mut GeoIp) {
    for fault in geoip.faults() {
        warn(format_args!("geoip: {fault}; countries or networks are missing"));
    }
}
