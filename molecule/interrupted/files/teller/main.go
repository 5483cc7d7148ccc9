// Copyright: webops.fastcgi contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Teller takes 20 ms to tell, as JSON, of which release it is, and what its environment and nginx's location say.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"net/http/fcgi"
	"os"
	"path/filepath"
	"time"
)

func main() {
	// Of the working directory: by now "current" may lead elsewhere.
	directory, err := os.Readlink("/proc/self/cwd")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(fcgi.Serve(nil, http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		time.Sleep(20 * time.Millisecond)
		response.Header().Set("Content-Type", "application/json")
		json.NewEncoder(response).Encode(map[string]string{
			"release":  filepath.Base(directory),
			"motto":    os.Getenv("TELLER_MOTTO"),
			"location": fcgi.ProcessEnv(request)["LOCATION"],
		})
	})))
}
