//! Countries and networks beside the daemon's answers: by the files that the daemon's configuration names, which this command
//! reads itself.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::control::{Command, client};
use crate::tools::geoip::GeoIp;
use crate::tools::offline::warn;

/// The files of the daemon that listens at `socket`; none if it does not answer. Says what is wrong with them.
pub(super) fn of_daemon(socket: &Path) -> GeoIp {
    #[derive(Deserialize)]
    struct GeoIpPaths {
        #[serde(default)]
        geoip: Vec<PathBuf>,
    }
    let answer = client::send(socket, &Command::Status).ok().filter(|answer| answer.done);
    let paths = answer.and_then(|answer| serde_json::from_str::<GeoIpPaths>(&answer.body).ok());
    paths.map_or_else(GeoIp::default, |GeoIpPaths { geoip }| open(&geoip))
}

/// These files. Says what is wrong with them.
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
