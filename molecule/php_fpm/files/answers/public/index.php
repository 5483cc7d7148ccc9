<?php
// Tells who answers, as JSON. With ?milliseconds=N, N ms after the first line has gone out.
header('Content-Type: application/json');
echo '{"pid": ', getmypid(), ",\n";
flush();
usleep(1000 * (int) ($_GET['milliseconds'] ?? 0));
echo substr(json_encode([
    'master' => posix_getppid(),
    'user' => posix_getpwuid(posix_geteuid())['name'],
    // Of the process's title: fpm_get_status() tells nothing while another worker asks, and crashes while one starts (php/php-src#19974).
    'pool' => substr(trim(file_get_contents('/proc/self/cmdline'), "\0 "), strlen('php-fpm: pool ')),
    'release' => basename(dirname(__DIR__)),
    'memory_limit' => ini_get('memory_limit'),
    'motto' => getenv('ANSWERS_MOTTO'),
    'proxy' => getenv('HTTP_PROXY'),
    'received' => strlen(file_get_contents('php://input')),
    'extensions' => get_loaded_extensions(),
]), 1);
