<?php
// Tells who answers, as JSON. With ?milliseconds=N, N ms after the first line has gone out.
header('Content-Type: application/json');
echo '{"pid": ', getmypid(), ",\n";
flush();
usleep(1000 * (int) ($_GET['milliseconds'] ?? 0));
echo substr(json_encode([
    'master' => posix_getppid(),
    'user' => posix_getpwuid(posix_geteuid())['name'],
    'pool' => fpm_get_status()['pool'],
    'release' => basename(dirname(__DIR__)),
    'memory_limit' => ini_get('memory_limit'),
    'motto' => getenv('ANSWERS_MOTTO'),
    'proxy' => getenv('HTTP_PROXY'),
    'received' => strlen(file_get_contents('php://input')),
    'extensions' => get_loaded_extensions(),
]), 1);
