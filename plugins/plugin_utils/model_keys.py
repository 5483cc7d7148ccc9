# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of fcgi_apps, their types, their defaults and their meaning: what docs/fcgi_apps.md is made from.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_nginx_values as nginx
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_values as values
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import LISTEN, SOCKET
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Dictionary, Key, ListOf, OrEmpty, OrFalse, Table

# Dictionaries in their normal form: with the keys of APP, of LOCATION and of OPTIONS.
App = dict[str, Any]
Location = dict[str, Any]
Options = dict[str, Any]

WITHOUT_HOME = "/nonexistent"

# Kinds that some keys belong to.
PHP = ("php_fpm",)
ANY_COMMAND = ("fcgi", "listener")
WITH_SOCKET = ("fcgi", "php_fpm")

RELEASE = Table(
    (
        Key("src", values.RELEASE_SOURCE, "The code.", required=True),
        Key(
            "version",
            values.text('a version in quotes, such as "1.4.2"', r"[A-Za-z0-9][A-Za-z0-9._+-]*"),
            "Its version, which names its directory `releases/<version>`. Another version restarts the app; php-fpm it has reload.",
            required=True,
        ),
        Key(
            "python_requirements",
            values.RELATIVE_PATH,
            "Requirements file inside the release; its packages go into the venv `.venv` of the release.",
            default="",
        ),
        Key("keep", values.whole_number(1, 1000), "How many releases stay on the host.", default=5),
    )
)

HEALTH = Table(
    (
        Key("path", values.text('a path that begins with "/", and a query if there is one', r"/[!-~]*"), "What is asked for.", required=True),
        Key("status", ListOf(values.whole_number(100, 599)), "The statuses that are right.", default=[200]),
        Key("body", values.REGULAR_EXPRESSION, "What the beginning of the body must contain (Python's `re.search`).", default=""),
        Key("method", values.one_of("GET", "HEAD", "POST"), "The request's method.", default="GET"),
        Key("timeout", values.whole_number(1, 3600), "Seconds for one attempt.", default=5),
        Key("deadline", values.whole_number(1, 86400), "Seconds in which an attempt must succeed after a deployment.", default=30),
    )
)

STATIC = Table(
    (
        Key("path", nginx.URI_PATH, "The files' path as the browser sees it.", required=True),
        Key("root", values.ABSOLUTE_PATH, "Directory below which the whole of `path` is looked for. Either this or `alias`."),
        Key("alias", values.ABSOLUTE_PATH, "Directory that stands for `path`. Either this or `root`."),
        Key("expires", nginx.EXPIRES, "How long browsers may keep them."),
        Key("extra", nginx.RAW_DIRECTIVES, "Directives of nginx for these files, as they are.", default=""),
    )
)

AUTH = Table(
    (
        Key("realm", nginx.REALM, "The name that the browser shows.", default="Restricted"),
        Key(
            "users",
            Dictionary(nginx.ACCOUNT, nginx.PASSWORD_HASH),
            "Names and password hashes (`openssl passwd -6`). Either this or `user_file`.",
        ),
        Key("user_file", values.ABSOLUTE_PATH, "A password file that is already on the host. Either this or `users`."),
    ),
    secret=True,
)

TLS = Table(
    (
        Key("certificate", values.ABSOLUTE_PATH, "Certificate with its chain, on the host.", required=True),
        Key("certificate_key", values.ABSOLUTE_PATH, "Its key, on the host.", required=True),
    )
)

LOCATION = Table(
    (
        Key(
            "path",
            values.ANY_TEXT,
            "The path that the app serves; it becomes `SCRIPT_NAME`, what follows it `PATH_INFO`. `/shop` serves `/shop` and all below `/shop/`, "
            "not `/shopping`. With `match: regex` a regular expression.",
            required=True,
        ),
        Key("match", values.one_of("prefix", "exact", "regex"), "How `path` is compared.", default="prefix", kinds=ANY_COMMAND),
        Key("pool", values.POOL_NAME, "Which of the app's `pools` serves it.", otherwise="the app's own", kinds=PHP),
        Key("index", ListOf(nginx.INDEX_FILE), "Files that stand for a directory.", otherwise="`index.php`, `index.html`", kinds=PHP),
        Key(
            "front_controller",
            values.FLAG,
            "Whether what is no file goes to the `index.php` of `path`, as frameworks and WordPress want it.",
            otherwise="`false`",
            kinds=PHP,
        ),
        Key(
            "deny",
            ListOf(nginx.URI_PATH),
            "Paths below `path` that answer 404, such as `/data` of DokuWiki. Hidden files do so always, but for `/.well-known/`.",
            otherwise="none",
            kinds=PHP,
        ),
        Key("server_name", ListOf(nginx.SERVER_NAME), "Host names.", otherwise="`fcgi_nginx_server_name`"),
        Key("listen", ListOf(nginx.LISTEN), "Ports and addresses of nginx.", otherwise='`["443"]` with `tls`, else `fcgi_nginx_listen`'),
        Key(
            "include_only",
            values.FLAG,
            "Make no server for it: a server block of your own includes `<fcgi_config_dir>/<fcgi_set>/fcgi_nginx/current/locations/<name>.conf`.",
            default=False,
        ),
        Key(
            "params",
            Dictionary(values.VARIABLE_NAME, nginx.VALUE),
            "Further `fastcgi_param`s, or other values for ours. Values may use nginx's variables. No place for secrets: every user of the host can read "
            "nginx's configuration.",
            default={},
        ),
        Key(
            "script_filename",
            nginx.SCRIPT_FILE,
            "The parameter `SCRIPT_FILENAME`, which fcgiwrap needs. One in the current release is passed on by the path of that release, with "
            "`DOCUMENT_ROOT`, so that nothing is served from the release before.",
            kinds=ANY_COMMAND,
        ),
        Key("connect_timeout", nginx.TIME, "Until a connection stands.", default="5s"),
        Key("send_timeout", nginx.TIME, "Between two writes of a request.", default="60s"),
        Key("read_timeout", nginx.TIME, "Between two reads of an answer; longer than the app's own limit, so that the app ends first.", default="60s"),
        Key("client_max_body_size", nginx.SIZE, "Largest request body.", otherwise="nginx's; with kind php_fpm PHP's `post_max_size`"),
        Key("buffer_size", nginx.SIZE, "For the header of an answer.", otherwise="nginx's"),
        Key("buffers", nginx.BUFFERS, "For the body of an answer.", otherwise="nginx's"),
        Key("buffering", values.FLAG, "Whether nginx takes the answer off the app as fast as it can. Off for event streams.", default=True),
        Key(
            "request_buffering",
            values.FLAG,
            "Whether the app gets a request only when it is complete. Off: no retry, slow clients hold processes.",
            default=True,
        ),
        Key("keepalive", values.FLAG, "Whether nginx keeps connections to the app open.", otherwise="by `runtime`"),
        Key("retry_non_idempotent", values.FLAG, "Whether a POST, too, is sent again when the process serving it dies.", default=False),
        Key("static", ListOf(STATIC), "Files that nginx serves itself; `auth` holds for them too.", default=[]),
        Key("auth", AUTH, "HTTP basic authentication."),
        Key("tls", TLS, "Makes the server one of TLS. Locations of one server share it."),
        Key("extra", nginx.RAW_DIRECTIVES, "Directives of nginx for this location, as they are: the escape hatch.", default=""),
        Key("server_extra", nginx.RAW_DIRECTIVES, "The same for its server. Locations of one server share them."),
    )
)

DIRECTIVES = Dictionary(values.PHP_FPM_DIRECTIVE, values.PHP_FPM_VALUE)
PHP_SETTINGS = Dictionary(values.PHP_DIRECTIVE, values.PHP_FPM_VALUE)
POOL_KEYS = (
    Key(
        "pool",
        DIRECTIVES,
        "Directives of the pool under php-fpm's own names, such as `pm.max_children`, `pm.max_requests` or `request_terminate_timeout`.",
        otherwise="`pm: dynamic` with `pm.max_children: 5`, a ping at `/fpm-ping` and a status at `/fpm-status`; the rest is php-fpm's",
        kinds=PHP,
    ),
    Key("php_value", PHP_SETTINGS, "Settings of PHP that scripts may change.", default={}, kinds=PHP),
    Key("php_admin_value", PHP_SETTINGS, "Settings of PHP that scripts may not change.", default={}, kinds=PHP),
)

POOL = Table(
    (
        Key("name", values.POOL_NAME, "Names the pool, as `<app>_<name>`, and its socket.", required=True),
        Key("socket", SOCKET, "What it listens on.", otherwise="`unix://<fcgi_run_dir>/<app>/<name>.sock`"),
        Key(
            "environment",
            Dictionary(values.VARIABLE_NAME, values.ENVIRONMENT_VALUE, secret=True),
            "Environment variables besides those of the app.",
            default={},
        ),
        *(key._replace(kinds=()) for key in POOL_KEYS),
    )
)

APP = Table(
    (
        Key(
            "name",
            values.APP_NAME,
            "Names the program, and by default its user, socket, logs and directories.",
            required=True,
        ),
        Key(
            "kind",
            values.KIND,
            "`fcgi`: processes share one listening socket, which the supervisor holds and passes on fd 0. `listener`: the program binds its own address. "
            "`php_fpm`: php-fpm, its master run by the supervisor as the app's user; see [php-fpm.md](php-fpm.md).",
            default="fcgi",
        ),
        Key(
            "state",
            values.one_of("present", "absent", "purged"),
            "`absent` stops the app and removes its configuration, as leaving it out of the list does; `purged` also removes its releases, its logs, its "
            "home below `fcgi_srv_dir`, and its user if that is `fcgi-<name>` and no other app's.",
            default="present",
        ),
        Key("groups", ListOf(values.LABEL), "Labels by which `fcgi_program` and the playbooks select apps.", default=[]),
        Key(
            "runtime",
            values.one_of(*RUNTIMES),
            "Presets for what the app is made with; see [Runtimes](#runtimes).",
            otherwise="`generic`; `php_fpm` with that kind",
            kinds=ANY_COMMAND,
        ),
        Key(
            "command",
            values.COMMAND,
            "What is run; no shell is involved. A first word without a leading `/` is looked for in the current release. `%(process_num)d` and "
            "supervisord's other expansions work, any other `%` means itself.",
            otherwise="required for `state: present`",
            kinds=ANY_COMMAND,
        ),
        Key("user", values.ACCOUNT, "Made as a system user without a login unless it exists. Never root.", otherwise="`fcgi-<name>`"),
        Key("group", values.GROUP, "The user's group, when it is made.", otherwise="same as `user`"),
        Key("home", values.ABSOLUTE_PATH, "The user's home.", otherwise=f"`<fcgi_srv_dir>/<name>/home` with `create_home`, else `{WITHOUT_HOME}`"),
        Key("create_home", values.FLAG, "Whether the home is made with the user.", default=False),
        Key("release", RELEASE, "Places the code in `<fcgi_srv_dir>/<name>/releases/<version>`, and a link `current` to it."),
        Key("processes", values.whole_number(1, 4096), "How many. supervisord calls it numprocs.", default=1, kinds=ANY_COMMAND),
        Key("directory", values.ABSOLUTE_PATH, "Working directory.", otherwise="the current release, else `/`"),
        Key(
            "environment",
            Dictionary(values.VARIABLE_NAME, values.ENVIRONMENT_VALUE, secret=True),
            "Environment variables; vault secrets are welcome. `%` means itself. `HOME`, `USER` and `LOGNAME` are set unless given.",
            default={},
        ),
        Key("umask", values.MODE, "The processes' umask.", otherwise="the supervisor's"),
        Key("autostart", values.FLAG, "Whether it starts with the supervisor.", default=True),
        Key(
            "autorestart",
            values.one_of(True, False, "unexpected"),
            "Whether a process that exited starts again. Healthy workers exit 0, hence not supervisord's `unexpected`.",
            default=True,
        ),
        Key("startsecs", values.whole_number(0, 86400), "Seconds after which a process counts as running.", otherwise="by `runtime`, after `start_delay`"),
        Key("startretries", values.whole_number(0, 1000000), "Attempts before a process is FATAL.", otherwise="by `runtime`"),
        Key("exitcodes", ListOf(values.whole_number(0, 255)), "Exit codes that `autorestart: unexpected` expects.", otherwise="by `runtime`"),
        Key("stopsignal", values.SIGNAL, "Asks a process to stop.", otherwise="by `runtime`"),
        Key("stopwaitsecs", values.whole_number(1, 86400), "Seconds until a process that was asked to stop is killed.", otherwise="by `runtime`"),
        Key("stopasgroup", values.FLAG, "Whether the process group is asked to stop.", default=False),
        Key("killasgroup", values.FLAG, "Whether the process group is killed.", otherwise="same as `stopasgroup`, or by `runtime`"),
        Key("reload_signal", values.SIGNAL, "What `fcgi_program` with `state: reloaded` sends.", otherwise="by `runtime`; none: the app cannot reload"),
        Key("priority", values.whole_number(0, 1000000), "Low ones start first and stop last.", default=999),
        Key("redirect_stderr", values.FLAG, "Whether stderr goes to the log of stdout.", default=True),
        Key("stdout_logfile", values.LOG_FILE, "Log of stdout.", otherwise="`<fcgi_log_dir>/<name>_%(process_num)02d.log`"),
        Key("stdout_logfile_maxbytes", values.LOG_SIZE, "Size at which it is rotated; 0 is never.", default="50MB"),
        Key("stdout_logfile_backups", values.LOG_BACKUPS, "How many rotated ones stay.", default=10),
        Key("stderr_logfile", values.LOG_FILE, "Log of stderr, with `redirect_stderr: false`.", otherwise="`<fcgi_log_dir>/<name>_%(process_num)02d.err.log`"),
        Key("stderr_logfile_maxbytes", values.LOG_SIZE, "Size at which it is rotated.", otherwise="50MB"),
        Key("stderr_logfile_backups", values.LOG_BACKUPS, "How many rotated ones stay.", otherwise="10"),
        Key(
            "socket",
            SOCKET,
            "The socket that the supervisor holds. Under supervisord, php-fpm binds its own.",
            otherwise="`unix://<fcgi_run_dir>/<name>.sock`, or `<name>/<name>.sock` where php-fpm binds it",
            kinds=WITH_SOCKET,
        ),
        Key(
            "socket_owner",
            values.text("user:group", r"[A-Za-z_][A-Za-z0-9_.-]*:[A-Za-z_][A-Za-z0-9_.-]*"),
            "Owner of a unix socket.",
            otherwise="the user and nginx's group",
            kinds=WITH_SOCKET,
        ),
        Key("socket_mode", values.MODE, "Mode of a unix socket.", otherwise='`"0660"`', kinds=WITH_SOCKET),
        Key(
            "socket_backlog",
            values.whole_number(1, 65535),
            "Connections that may wait; the kernel caps it at `net.core.somaxconn`.",
            otherwise="supervisord's",
            kinds=WITH_SOCKET,
        ),
        Key(
            "listen",
            LISTEN,
            "What the program binds. With `processes: N` the ports are this one and the N-1 after it; each process finds its own in the environment "
            "variable `PORT`, and in the command as `%(process_num)d`.",
            otherwise="required for `kind: listener`",
            kinds=("listener",),
        ),
        Key("allow_remote", values.FLAG, "Allow an address that other hosts can reach. FastCGI knows no authentication.", default=False),
        Key(
            "health",
            OrFalse(HEALTH),
            "The request whose answer a deployment waits for. `false`: it waits for none.",
            otherwise="a ping, which the app itself does not see; with kind php_fpm the pool's `ping.path`",
        ),
        Key(
            "root",
            values.DOCUMENT_ROOT,
            "Document root: a path, or one inside the current release.",
            otherwise="the current release, else required for `kind: php_fpm`",
            kinds=PHP,
        ),
        Key("php_version", values.PHP_VERSION, "The version whose php-fpm runs it.", otherwise="`fcgi_php_fpm_version`, else the distribution's", kinds=PHP),
        Key("php_extensions", ListOf(values.PHP_EXTENSION), "Extensions whose packages are installed, such as `gd`.", default=[], kinds=PHP),
        Key("start_delay", values.whole_number(0, 60), "Seconds before each start of php-fpm.", otherwise="`fcgi_php_fpm_start_delay`", kinds=PHP),
        Key("global", DIRECTIVES, "Directives of php-fpm's `[global]` section.", otherwise="`process_control_timeout: 10s`", kinds=PHP),
        *POOL_KEYS,
        Key(
            "pools",
            ListOf(POOL),
            "Further pools in the same master, as the same user. A location chooses one with `pool`. Their sockets php-fpm binds itself.",
            default=[],
            kinds=PHP,
        ),
        Key("locations", ListOf(LOCATION), "Where nginx serves the app.", default=[]),
        Key("upstream_extra", nginx.RAW_DIRECTIVES, "Directives of nginx for the app's upstream group, as they are.", default=""),
        Key(
            "extra",
            Dictionary(values.text("a key of supervisord", r"[a-z][a-z0-9_]*"), values.EXTRA_VALUE),
            "Further keys of supervisord's section, as they are: the escape hatch.",
            default={},
        ),
    ),
    synonyms={"numprocs": "processes", "workers": "processes", "env": "environment", "cwd": "directory", "chdir": "directory", "port": "listen"},
)

# {version} and {extension} stand for an app's.
PHP_OF_DEBIAN = {
    "version": "8.2",
    "command": "/usr/sbin/php-fpm{version}",
    "package": "php{version}-fpm",
    "extension": "php{version}-{extension}",
    "service": "php{version}-fpm",
    "pool_dir": "/etc/php/{version}/fpm/pool.d",
}

OPTIONS = Table(
    (
        Key("fcgi_set", values.SET_NAME, "Who owns what.", default="default"),
        Key("supervisor", values.text("fcgivisord or supervisord", r"fcgivisord|supervisord"), "What reads the sections.", default="supervisord"),
        Key("nginx_group", values.GROUP, "Group that may connect to the sockets.", default="www-data"),
        Key("run_dir", values.ABSOLUTE_PATH, "Directory of the sockets.", default="/run/fastcgi"),
        Key("log_dir", values.ABSOLUTE_PATH, "Directory of the logs.", default="/var/log/fcgi"),
        Key("srv_dir", values.ABSOLUTE_PATH, "Directory of the releases.", default="/srv/fcgi"),
        Key("config_dir", values.ABSOLUTE_PATH, "Directory of the generations.", default="/etc/fcgi"),
        Key("nginx_include_dir", values.ABSOLUTE_PATH, "Directory in which nginx finds our links.", default="/etc/nginx/conf.d"),
        Key("nologin", values.ABSOLUTE_PATH, "Shell of users who may not log in.", default="/usr/sbin/nologin"),
        Key("php", Dictionary(values.LABEL, values.text("text", ".*")), "PHP's version and names on this operating system.", default=PHP_OF_DEBIAN),
        Key("php_fpm_start_delay", OrEmpty(values.whole_number(0, 60)), "Seconds before each start of php-fpm.", otherwise="1 under supervisord, else 0"),
        Key("listen", ListOf(nginx.LISTEN), "Ports and addresses of nginx.", default=["80"]),
        Key("server_name", ListOf(nginx.SERVER_NAME), "Host names.", default=["localhost"]),
    )
)

# Keys of fcgi_apps that stand in supervisord's section under the same name, in this order.
SAME_IN_SUPERVISORD = (
    "socket",
    "socket_owner",
    "socket_mode",
    "socket_backlog",
    "user",
    "directory",
    "umask",
    "priority",
    "autostart",
    "autorestart",
    "startsecs",
    "startretries",
    "exitcodes",
    "stopsignal",
    "stopwaitsecs",
    "stopasgroup",
    "killasgroup",
    "redirect_stderr",
    "stdout_logfile",
    "stdout_logfile_maxbytes",
    "stdout_logfile_backups",
    "stderr_logfile",
    "stderr_logfile_maxbytes",
    "stderr_logfile_backups",
)
# Keys of supervisord's section that the model writes itself, and the key of fcgi_apps that decides them.
MANAGED = {
    **{key: key for key in ("command", "environment", *SAME_IN_SUPERVISORD)},
    "numprocs": "processes",
    "numprocs_start": "listen",
    "process_name": "name",
}
