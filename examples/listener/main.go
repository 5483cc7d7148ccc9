// The listener binds an address of its own: 127.0.0.1 and the port that the supervisor gives it in PORT.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
)

func answer(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "ProcessId: %d\nPort: %s\n", os.Getpid(), os.Getenv("PORT"))
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(fcgi.Serve(listener, http.HandlerFunc(answer)))
}
