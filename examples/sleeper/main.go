// The sleeper serves the FastCGI socket that it finds on file descriptor 0; each answer takes a second and names the process.
package main

import (
	"fmt"
	"log"
	"net/http"
	"net/http/fcgi"
	"os"
	"time"
)

func sleeper(w http.ResponseWriter, r *http.Request) {
	time.Sleep(time.Second)
	fmt.Fprintf(w, "ProcessId: %d\n", os.Getpid())
}

func main() {
	// A nil listener is file descriptor 0.
	log.Fatal(fcgi.Serve(nil, http.HandlerFunc(sleeper)))
}
