; A C function that calls back: bsearch knows the vector by address, while what compares collects.
(define (fill v i) (if (< i (vector-length v)) (begin (vector-set! v i (cons (* 10 i) (number->string i))) (fill v (+ i 1)))))
(define v (make-vector 1000 '()))
(fill v 0)
(define (find key)
  (vector-search v key (lambda (key item) (make-vector 500 '()) (gc) (gc 'all) (- key (car item)))))
(print "found" (find 0) (find 9990) (find 4560) (vector-ref v (find 4560)))
(print "not there" (find 4561) (find -1) (find 100000) (vector-search (vector) 1 -))

; Large, old, and changed while it is searched.
(define big (make-vector 3000 '()))
(fill big 0)
(gc 'all)
(define seen 0)
(define (visit key item) (set! seen (+ seen 1)) (set-cdr! item (list seen)) (gc 'all) (- key (car item)))
(define at (vector-search big 12340 visit))
(print "large" at (car (vector-ref big at)) (= seen (car (cdr (vector-ref big at)))))

; A search within a search: what is found outside must be found inside, too.
(print "nested" (vector-search v 700 (lambda (key item) (- key (car (vector-ref v (find (car item))))))))
(print "builtin" (vector-search (vector 1 3 5 7) 5 -))

; An error unpins what it leaves.
(define (get name l) (if (eq? (car (car l)) name) (cdr (car l)) (get name (cdr l))))
(vector-search v 1 (lambda (key item) (gc 'all) (car key)))
(vector-search v 1 (lambda (key item) item))
(define (for-ever key item) (vector-search v key for-ever))
(vector-search v 1 for-ever)
(vector-search 5 1 -)
(print "pins" (get 'pins (heap-stats)) (heap-verify))
