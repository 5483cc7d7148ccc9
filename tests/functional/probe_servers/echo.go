// Copyright: webops.fastcgi contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Echo answers each request on fd 0 with what it was asked.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/fcgi"
)

func echo(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintf(response, "%s %s %s %s\n", request.Method, request.URL.Path, request.URL.RawQuery, body)
}

func main() {
	log.Fatal(fcgi.Serve(nil, http.HandlerFunc(echo)))
}
