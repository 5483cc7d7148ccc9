<?php
// Copyright: webops.fastcgi contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
header("Content-Type: text/plain");
$path = $_SERVER["SCRIPT_NAME"] . $_SERVER["PATH_INFO"];
echo "{$_SERVER["REQUEST_METHOD"]} $path {$_SERVER["QUERY_STRING"]} ", file_get_contents("php://input"), "\n";
