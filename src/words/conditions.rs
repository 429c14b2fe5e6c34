//! What filters count that ask for less, or for something else, than a category of a grammar: the conditions of a grammar that
//! extends it, which `import` writes.

/// The conditions that stand for a filter.
#[derive(Clone, Copy, Debug)]
pub struct FilterConditions {
    /// Its name.
    pub filter: &'static str,
    /// The modes in which it counts them; empty for all of them.
    pub modes: &'static [&'static str],
    /// The grammar that has the shapes.
    pub base: &'static str,
    /// The sections, each for the category that is called as the filter.
    pub sections: &'static str,
}

/// The conditions of a filter in a mode, one for each server whose log it reads.
pub fn conditions(filter: &str, mode: &str) -> impl Iterator<Item = &'static FilterConditions> {
    CONDITIONS.iter().filter(move |known| {
        known.filter == filter && (known.modes.is_empty() || known.modes.contains(&mode))
    })
}

const fn all(filter: &'static str, base: &'static str, sections: &'static str) -> FilterConditions {
    FilterConditions { filter, modes: &[], base, sections }
}

/// A URL in the query.
macro_rules! url {
    () => {
        "\n    request.method is GET POST and request has \"?\" and request has \"=http://\"\n"
    };
}

/// Those of fail2ban's filters that need some.
pub const CONDITIONS: &[FilterConditions] = &[
    all(
        "apache-auth",
        "apache",
        r#"
apache-auth in error:
    what starts AH01614: AH01617: AH01618: AH01630: AH01631: AH01637: AH01695: AH01797: and module starts not evasive
    what starts AH02031: AH02032:
    what starts AH01775: AH01782: AH01785: AH01788: AH01789: AH01790: AH01791: AH01792: AH01793: AH01794:
    what starts "client denied by server configuration: " and module starts not evasive
    what starts "client used wrong authentication scheme: "
apache-auth in old-error:
    what starts "user " and what has " not found" ": authentication failure" ": password mismatch"
    what starts "client denied by server configuration: " "client used wrong authentication scheme: "
    what starts "Digest: user " "Digest: realm mismatch" "Digest: unknown algorithm" "Digest: invalid qop"
    what starts "Digest: invalid nonce" and what has "length is not" "time travel"
"#,
    ),
    all(
        "apache-badbots",
        "apache",
        concat!(
            "\nlist badbots:\n",
            include_str!("badbots.list"),
            "\napache-badbots in access:\n    request.method is GET POST HEAD and agent is @badbots\n"
        ),
    ),
    all(
        "apache-botsearch",
        "apache",
        r#"
list webmail:
    /var/www/cgi-bin
    /var/www/mysqladmin
    /var/www/roundcube
    /var/www/mail
    /var/www/extmail
    /var/www/horde
    /var/www/webmail
    /var/www/vwebmail
    /var/www/v-webmail
    /var/www/pma
    /var/www/myadmin
    /var/www/phpmyadmin
    /var/www/typo3/pma
    /var/www/typo3/phpmyadmin
    /var/www/xampp/phpmyadmin
    /var/www/admin/pma
    /var/www/admin/phpmyadmin
    /var/www/wp-login.php
    /var/www/wp-signup.php
    /var/www/wp-admin.php

apache-botsearch in error:
    what starts "AH00128: File does not exist: " "AH01264: script not found" "script '" and what has @webmail
    what starts "File does not exist: " "script not found" "AH02811: script not found" and what has @webmail
apache-botsearch in old-error:
    what starts "File does not exist: " "script not found" "script '" and what has @webmail
"#,
    ),
    all(
        "apache-nohome",
        "apache",
        r#"
apache-nohome in error:
    what starts "AH00128: File does not exist: " "File does not exist: " and what has /~
apache-nohome in old-error:
    what starts "File does not exist: " and what has /~
"#,
    ),
    all(
        "apache-noscript",
        "apache",
        r#"
list scripts:
    .php
    php-cgi
    php.cgi
    .asp
    .exe
    .pl
    cgi-bin/

apache-noscript in error:
    what starts "AH00128: File does not exist: " "AH00130: File does not exist: " "File does not exist: " and what has @scripts
    what starts "AH01264: script not found or unable to stat: " "AH02811: script not found or unable to stat: " and what has @scripts
    what starts "script not found or unable to stat: " "script '" and what has @scripts
    what starts "AH01071: Got error 'Primary script unknown" "Got error 'Primary script unknown"
apache-noscript in old-error:
    what starts "File does not exist: " "script not found or unable to stat: " "script '" and what has @scripts
"#,
    ),
    all(
        "apache-overflows",
        "apache",
        r#"
apache-overflows in error:
    what starts AH00124: AH00125: AH00126: AH00134: AH00135: AH00136: and what has "Invalid method in request" "Invalid URI in request"
    what starts "Invalid method in request" "Invalid URI in request" "AH00565: request failed: URI too long"
    what starts "AH00566: request failed: invalid characters in URI" "request failed: erroneous characters after protocol string:"
apache-overflows in old-error:
    what starts "Invalid method in request" "Invalid URI in request" "request failed: URI too long"
    what starts "request failed: erroneous characters after protocol string:" "request failed: invalid characters in URI"
"#,
    ),
    all(
        "apache-shellshock",
        "apache",
        r#"
apache-shellshock in error:
    what starts "AH01215: /bin/" "/bin/" and what has "ignoring function definition attempt" "error importing function definition for `HTTP_"
apache-shellshock in old-error:
    what starts /bin/ and what has "ignoring function definition attempt" "error importing function definition for `HTTP_"
"#,
    ),
    all(
        "haproxy-http-auth",
        "haproxy",
        "\nhaproxy-http-auth in http:\n    server is \"<NOSRV>\" and status is 401\n",
    ),
    all(
        "nginx-botsearch",
        "nginx",
        r#"
list block:
    /roundcube
    /mail
    /extmail
    /horde
    /webmail
    /vwebmail
    /v-webmail
    /pma
    /myadmin
    /phpmyadmin
    /typo3/pma
    /typo3/myadmin
    /typo3/phpmyadmin
    /xampp/pma
    /xampp/myadmin
    /xampp/phpmyadmin
    /admin/pma
    /admin/myadmin
    /admin/phpmyadmin
    /wp-login.php
    /wp-signup.php
    /wp-admin.php
    /cgi-bin
    /mysqladmin
    //roundcube
    //mail
    //extmail
    //horde
    //webmail
    //vwebmail
    //v-webmail
    //pma
    //myadmin
    //phpmyadmin
    //typo3/pma
    //typo3/myadmin
    //typo3/phpmyadmin
    //xampp/pma
    //xampp/myadmin
    //xampp/phpmyadmin
    //admin/pma
    //admin/myadmin
    //admin/phpmyadmin
    //wp-login.php
    //wp-signup.php
    //wp-admin.php
    //cgi-bin
    //mysqladmin

nginx-botsearch in access:
    status is 404 and request.method is GET POST HEAD and request.path starts @block
nginx-botsearch in object:
    status is 404 and request.method is GET POST HEAD and request.path starts @block
"#,
    ),
    FilterConditions {
        filter: "nginx-http-auth",
        modes: &["", "normal", "auth", "aggressive"],
        base: "nginx",
        sections: r#"
nginx-http-auth in access:
    status is 401 and user is not - and user starts not "- "
nginx-http-auth in object:
    status is 401 and user is not - ""
nginx-http-auth in login:
    rest has not "was not found in"
"#,
    },
    all(
        "php-url-fopen",
        "nginx",
        concat!("\nphp-url-fopen in access:", url!(), "php-url-fopen in object:", url!()),
    ),
    all("php-url-fopen", "apache", concat!("\nphp-url-fopen in access:", url!())),
    all(
        "squid",
        "squid",
        "\nsquid in access:\n    result ends _DENIED and status is 403\n    result is NONE and status is 405\n",
    ),
    all(
        "zoneminder",
        "apache",
        r#"
zoneminder in error:
    what starts "WAR [Login denied for user " "ERR [Login denied for user " "WAR [Could not retrieve user " "ERR [Could not retrieve user "
zoneminder in old-error:
    what starts "WAR [Login denied for user " "ERR [Login denied for user " "WAR [Could not retrieve user " "ERR [Could not retrieve user "
"#,
    ),
];
